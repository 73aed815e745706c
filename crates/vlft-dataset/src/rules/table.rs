//! The table itself, in the order of the documentation.

use Section::{Answers, Copies, Images, Lines, Schema, Texts, Tokens, Turns};
use Severity::{Error, Warning};
use vlft_base::Severity;

use super::{About, Rule, Section};

macro_rules! rules {
    ($($rule:ident $section:ident $id:literal $severity:ident $meaning:literal $why:literal $mend:literal)*) => {
        &[$(About {
            rule: Rule::$rule,
            section: $section,
            id: $id,
            severity: $severity,
            meaning: $meaning,
            why: $why,
            mend: $mend,
        }),*]
    };
}

/// Every rule, in the order of the documentation.
#[rustfmt::skip]
pub const RULES: &[About] = rules! {
    NotJsonl Lines "not-jsonl" Error
        "the file is not JSON Lines: one object per line"
        "Nothing can be read; the command ends with exit code 2."
        "A JSON array becomes lines with `jq -c '.[]'`. A label export goes through `vlft build-jsonl`."
    NotUtf8 Lines "not-utf8" Error
        "a line holds bytes that are not UTF-8"
        "The record cannot be read. Guessing an encoding would put wrong characters into answers."
        "Save the file as UTF-8; in PowerShell `Out-File -Encoding utf8`."
    ByteOrderMark Lines "byte-order-mark" Warning
        "the file starts with a byte order mark, which other readers choke on"
        "vlft reads it; Python's `json` and most trainers refuse the first line."
        "Save the file as UTF-8 without BOM, or let `--fix-out` write it without."
    EmptyLine Lines "empty-line" Warning
        "a line is empty"
        "vlft skips it; other readers stop there."
        "Remove it, or let `--fix-out` do so."
    BadJson Lines "bad-json" Error
        "a line is not valid JSON"
        "The record cannot be read."
        "Write lines with a JSON library (`json.dumps`), never by printing. JSON has no NaN, no single quotes, no comma at the end."
    CutLine Lines "cut-line" Error
        "a line ends in the middle of its JSON"
        "The record cannot be read; the file was cut off or broken over several lines."
        "Write the file again, one whole record on each line."

    UnknownKey Schema "unknown-key" Error
        "a key that records do not have"
        "A misspelt key would be a key that is silently not there."
        "Correct the name. Facts of your own go into `meta`, whose keys are free."
    MissingKey Schema "missing-key" Error
        "a key that every record needs is not there"
        "The record cannot be used."
        "Records have `id` and `messages`, messages `role` and `content`, parts `type` and what it names. `schemas/record.schema.json` has it all."
    WrongType Schema "wrong-type" Error
        "a value has another type than the format asks for"
        "The record cannot be used."
        "`content` is an array of parts, even for one text: `[{\"type\":\"text\",\"text\":\"..\"}]`. `vlft convert` reads the formats of other tools."
    DuplicateKey Schema "duplicate-key" Error
        "one object has the same key twice"
        "One of the two values would win in silence, in most readers the last."
        "Keep one of the two."
    MetaValue Schema "meta-value" Error
        "a known key of `meta` has a value it cannot have"
        "Splits go by `meta.document`, training by `meta.weight`; with a wrong value they would do something else than meant."
        "`document`, `doc_type` and `source_sha256` are strings, `pages` an array of page numbers, `weight` a number from 0 to 1000000."

    EmptyId Turns "empty-id" Error
        "the id is empty"
        "Predictions, errors and `vlft why` name records by their ids."
        "Give every record its own id."
    DuplicateId Turns "duplicate-id" Error
        "an earlier record has the same id"
        "Predictions of the two could not be told apart; often it is the same document twice."
        "Give every record its own id, or remove the second one."
    EmptyMessages Turns "empty-messages" Error
        "the record has no messages"
        "There is nothing to learn."
        "Leave the record out."
    NoAssistant Turns "no-assistant" Error
        "no turn of the assistant: there is nothing to learn"
        "Only assistants' turns are trained on."
        "Add the answer as a turn with the role `assistant`, or leave the record out."
    RoleOrder Turns "role-order" Error
        "turns are not: at most one system first, then user and assistant in turn"
        "Chat templates merge, drop or refuse such turns; what is trained is not what was written."
        "Put the turns in order; two user turns in a row become one with two parts."
    LastTurn Turns "last-turn" Error
        "the last turn is not the assistant's"
        "What follows the last answer is never trained on; most often the answer is missing."
        "End with the answer."
    EmptyContent Turns "empty-content" Error
        "a message has no content"
        "The template would write an empty turn."
        "Leave the message out, or the record."
    EmptyTarget Turns "empty-target" Error
        "an answer has no text"
        "The model would learn to say nothing."
        "Leave the record out; for a page on which nothing is to be found, say so as JSON."
    ImageRole Turns "image-role" Error
        "an image outside a user turn; chat templates drop it"
        "The model would never see the image."
        "Move the image into the user's turn."

    SpecialToken Texts "special-token" Error
        "text that the tokenizer would read as a control token"
        "`<|im_end|>` in a text ends the turn, `<|image_pad|>` is an image that is not there."
        "Remove it, or write it otherwise; the chat template adds the real ones. With `--model` the tokens of that tokenizer are looked for, without one those of Qwen."
    ControlCharacter Texts "control-character" Error
        "a NUL or another control character in a text or an id"
        "It comes from a broken export, and the model would learn to write it."
        "Remove it where the text is made; line breaks and tabs are fine in texts."
    ReplacementCharacter Texts "replacement-character" Warning
        "U+FFFD in a text: it was decoded wrongly once"
        "The letter that stood there is lost, and the model learns to write the mark."
        "Export the text again as UTF-8."

    PathEmpty Images "path-empty" Error
        "an image path is empty"
        "There is no image to look at."
        "Leave the part out, or name the file."
    PathBackslash Images "path-backslash" Error
        "an image path with `\\`; paths use `/` on every system"
        "The dataset could be used on Windows only."
        "`--fix-out` rewrites them all."
    PathAbsolute Images "path-absolute" Error
        "an absolute image path, which holds on one machine only"
        "The folder cannot be moved, nor given to anyone."
        "Make paths relative to the JSONL file."
    PathUrl Images "path-url" Error
        "an image given as a URL; images are files"
        "What a server answers may change, and training does not go into the network."
        "Save the image beside the JSONL file and name its path; `vlft convert` does it for data URLs."
    PathOutside Images "path-outside" Warning
        "an image more than two folders above the JSONL file: they must be moved together"
        "Whoever copies the dataset's folder copies it without these images."
        "Keep images in or beside the folder of the JSONL file."
    ImageElsewhere Images "image-elsewhere" Warning
        "an image found only relative to the working directory"
        "From any other directory the image is missing."
        "`--fix-out` rewrites the path relative to the new file."
    ImageMissing Images "image-missing" Error
        "an image that is not there"
        "Training would stop, or other tools take another sample in silence."
        "Check the name, upper and lower case too. `--fix-out` leaves such records out."
    ImageUnreadable Images "image-unreadable" Error
        "an image that cannot be decoded to its last row"
        "Cut or damaged files become grey areas beside complete labels: the model learns to invent."
        "Copy or unpack it again; PNG, JPEG and WebP are read. `--decode header` finds only what the header shows."
    ImageAspect Images "image-aspect" Error
        "an image more than 200 times as long as wide, which the model refuses"
        "Training would stop there."
        "Cut it into pieces, or leave it out."
    ImageSmall Images "image-small" Warning
        "an image with a side under 28 pixels, which is blown up before the model sees it"
        "Nothing on it can be read."
        "Rasterize the page at a higher resolution."
    ImageLarge Images "image-large" Warning
        "an image of more than 50 million pixels, most of which the model never sees"
        "Decoding takes a second and 150 MB each time; it is then scaled down to a million pixels or so."
        "Rasterize with `--max-pixels`, or scale it down once."
    ImageRotated Images "image-rotated" Warning
        "an image whose EXIF data say that it is to be turned"
        "Training turns it upright; other programs and servers may show it lying on its side."
        "Save it upright: `mogrify -auto-orient`, or Pillow's `ImageOps.exif_transpose`."
    ImageAlpha Images "image-alpha" Warning
        "an image with transparent parts"
        "Training puts it on white; programs that drop the transparency show whatever colour lies beneath."
        "Save it without transparency."

    TargetFence Answers "target-fence" Error
        "an answer in a markdown fence; the fence would be learned"
        "The model would write the fence too, and whoever parses its answers fails."
        "`--fix-out` removes it."
    TargetJson Answers "target-json" Error
        "an answer that is not JSON"
        "The model learns what is there: cut or broken answers."
        "The assistant's text is only the target JSON. Check for a length limit where the labels were made."
    TargetDuplicateKey Answers "target-duplicate-key" Error
        "an answer whose JSON has a key twice"
        "Readers keep one of the two values; the model learns to write both."
        "Keep one of the two."
    TargetNothing Answers "target-nothing" Warning
        "an answer in which every value is empty or null"
        "A few teach that a page may hold nothing. Many teach to give up; often the labels were not found."
        "Check that the labels belong to these pages; leave the record out, or lower its `meta.weight`."
    TargetSchema Answers "target-schema" Error
        "an answer that the target schema refuses"
        "The model learns answers that whoever uses them refuses."
        "Mend the answer or the schema; `vlft build-jsonl` can make the types right."

    ConflictingAnswers Copies "conflicting-answers" Error
        "the same images and the same prompt as in another record, but another answer"
        "Nothing in the input tells which is right: the model learns to guess."
        "Compare the two labels and keep one. Where both are right, the prompt must say which is asked for."
    DuplicateRecord Copies "duplicate-record" Warning
        "the same images, prompt and answer as in an earlier record"
        "It counts twice in training, and on both sides of a split it is a leak (`vlft split` keeps such records together)."
        "Remove one; `--fix-out` keeps the first. To count a record twice, set `meta.weight`."
    DuplicateImage Copies "duplicate-image" Warning
        "two files of different documents with the same bytes"
        "Often one document under two names. `vlft split` keeps them on one side."
        "Remove one of the documents, or give both the same `meta.document`. The backs of forms are counted once."
    NearImage Copies "near-image" Warning
        "two images of different documents that look the same: saved again, scaled, or scanned twice"
        "Often one document under two names. `vlft split` keeps them on one side."
        "Look at both. Remove one, or give both the same `meta.document`."

    Uncountable Tokens "uncountable" Error
        "a record whose tokens the model directory's code cannot count"
        "Training would refuse the record."
        "The message has the cause: a template that changes answers, an image it cannot use."
    TooLong Tokens "too-long" Error
        "a record with more tokens than `--max-tokens`"
        "Training stops at it, or drops it and says so (`data.too_long`). Nothing is ever cut."
        "Lower `data.max_pixels`, raise `data.max_tokens`, or leave it out with `--fix-out`."
    AnswerChanged Tokens "answer-changed" Error
        "the tokens that are trained on do not spell the answer"
        "The model would learn another text than the record's. Tokenizers compose letters and accents, for one."
        "The message shows the first difference; write the answer as the tokenizer does (Unicode NFC)."
};
