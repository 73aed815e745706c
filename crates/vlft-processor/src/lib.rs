//! vlft-processor
