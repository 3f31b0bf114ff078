"""polyfuse: fuse, tile and recompute networks of convolution and pooling layers, exactly."""
