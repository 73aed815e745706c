//! What every format asks of a record, ours included: turns in order, and images in user turns.

use vlft_dataset::record::Role;

use crate::fields::Fallible;
use crate::rules::{EMPTY_TURN, IMAGE_ROLE, TURNS};
use crate::sample::{Refusal, Sample};

/// The sample must be in its normal form.
pub(crate) fn check(sample: &Sample) -> Fallible<()> {
    let mut expected = &[Role::System, Role::User][..];
    for (index, turn) in sample.turns.iter().enumerate() {
        let (number, role) = (index + 1, turn.role.as_str());
        if !expected.contains(&turn.role) {
            let wanted: Vec<&str> = expected.iter().map(|role| role.as_str()).collect();
            let reason = format!(
                "message {number} is `{role}`; expected `{}`",
                wanted.join("` or `")
            );
            return Err(Refusal::new(TURNS, reason));
        }
        expected = match turn.role {
            Role::System | Role::Assistant => &[Role::User],
            Role::User => &[Role::Assistant],
        };
        if turn.content.is_empty() {
            let reason = format!("message {number}, of the {role}, is empty");
            return Err(Refusal::new(EMPTY_TURN, reason));
        }
        if turn.role != Role::User && turn.has_image() {
            let reason = format!("message {number}, of the {role}, has an image");
            return Err(Refusal::new(IMAGE_ROLE, reason));
        }
    }
    match sample.turns.last() {
        None => Err(Refusal::new(TURNS, "there are no messages")),
        Some(last) if last.role != Role::Assistant => {
            let reason = format!(
                "the last message is `{}`; expected `assistant`",
                last.role.as_str()
            );
            Err(Refusal::new(TURNS, reason))
        }
        Some(_) => Ok(()),
    }
}
