void two_convs(float x[20][20], float w1[3][3], float t[18][18], float w2[3][3], float y[16][16]) {
  for (long h = 0; h < 18; h++)
    for (long w = 0; w < 18; w++) {
      set_t: t[h][w] = 0;
      for (long kh = 0; kh < 3; kh++)
        for (long kw = 0; kw < 3; kw++)
          add_t: t[h][w] += w1[kh][kw] * x[h + kh][w + kw];
    }
  for (long h = 0; h < 16; h++)
    for (long w = 0; w < 16; w++) {
      set_y: y[h][w] = 0;
      for (long kh = 0; kh < 3; kh++)
        for (long kw = 0; kw < 3; kw++)
          add_y: y[h][w] += w2[kh][kw] * t[h + kh][w + kw];
    }
}
