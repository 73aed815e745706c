//! vlft-example
