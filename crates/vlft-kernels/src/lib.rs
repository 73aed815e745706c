//! vlft-kernels
