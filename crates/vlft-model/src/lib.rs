//! vlft-model
