void atax(double A[12][16], double x[16], double y[16], double tmp[12]) {
  for (long j = 0; j < 16; j++)
    set_y: y[j] = 0;
  for (long i = 0; i < 12; i++) {
    set_tmp: tmp[i] = 0;
    for (long j = 0; j < 16; j++)
      add_tmp: tmp[i] += A[i][j] * x[j];
    for (long j = 0; j < 16; j++)
      add_y: y[j] += A[i][j] * tmp[i];
  }
}
