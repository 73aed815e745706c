//! The next token of one row, for looking at what a model answers while it trains. The images are
//! seen once; the text is run again from its beginning for every token, with no key/value cache: it
//! is the forward of training and evaluation, and cannot answer something else than they measure.

use super::{ImageFeatures, Inputs, Qwen3Vl};
use crate::lora::Adapters;

/// The images of a prompt as the language model sees them.
pub struct PromptImages(Option<ImageFeatures>);

impl Qwen3Vl {
    /// Runs the vision tower on the images of one row.
    pub fn prompt_images(&self, prompt: &Inputs, adapters: &Adapters) -> PromptImages {
        PromptImages(self.image_features(prompt, adapters, &mut |_, _| {}))
    }

    /// Logits `[V]` of the token after the last one. `inputs` is one row without padding: the prompt
    /// whose images were given, and what was answered so far.
    pub fn next_token_logits(
        &self,
        inputs: &Inputs,
        images: &PromptImages,
        adapters: &Adapters,
    ) -> Vec<f32> {
        assert_eq!(inputs.rows, 1, "one row is continued");
        let hidden = self.text_states(inputs, images.0.as_ref(), adapters, &mut |_, _| {});
        let last = hidden.select(0, self.rows(&[inputs.tokens as i32 - 1]));
        let normal = self.language_model.norm.forward(last);
        let logits = self.head().product(normal);
        logits.into_data().iter::<f32>().collect()
    }
}
