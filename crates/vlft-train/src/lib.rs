//! vlft-train
