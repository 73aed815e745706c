//! What the model is fed for one record, and for a right-padded batch of records. Plain vectors:
//! whoever owns a tensor library turns them into tensors.

use crate::pixels::Pixels;

/// The label of a position that is not trained on.
pub const IGNORED: i32 = -100;

/// One record, ready for the model. All per-token vectors have the same length L.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub id: String,
    /// [L], image placeholders already expanded.
    pub input_ids: Vec<u32>,
    /// [L]: the id itself where the token is trained on, [`IGNORED`] elsewhere. Not shifted.
    pub labels: Vec<i32>,
    /// [3][L]: time, row and column of the M-RoPE.
    pub position_ids: [Vec<i32>; 3],
    /// [L]: 0 text, 1 image, 2 video.
    pub mm_token_type_ids: Vec<u8>,
    /// In the order of their placeholders.
    pub images: Vec<PatchedImage>,
}

/// One image as the vision tower takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchedImage {
    /// [grid_h * grid_w, C * T * P * P], four consecutive rows form one language model token.
    pub pixel_values: Pixels,
    /// (1, rows, columns) in patches, before the spatial merge.
    pub grid_thw: [usize; 3],
}

impl Sample {
    pub fn len(&self) -> usize {
        self.input_ids.len()
    }
    pub fn is_empty(&self) -> bool {
        self.input_ids.is_empty()
    }

    /// Tokens that count in the shifted loss: every labelled position but the first of the row.
    pub fn supervised(&self) -> usize {
        self.labels
            .iter()
            .skip(1)
            .filter(|label| **label != IGNORED)
            .count()
    }
}
