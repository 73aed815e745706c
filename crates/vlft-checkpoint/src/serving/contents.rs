//! What is wrong with tensors by themselves: what becomes of each, and the values in them.

use super::adapter::FoundAdapter;
use super::names::{Name, Part};
use super::report::{Fate, Problem, TensorFate};
use crate::float::Float;

/// One problem for each rule that hit tensors, in the order of the file.
pub(super) fn tensor_problems(fates: &[TensorFate]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for tensor in fates {
        if matches!(tensor.fate, Fate::Applied | Fate::Skipped) {
            continue;
        }
        let renameable = tensor
            .published
            .as_ref()
            .is_some_and(|name| *name != tensor.name)
            && ["other-name", "unreadable-name"].contains(&tensor.rule);
        let same = |p: &&mut Problem| {
            p.rule == tensor.rule && p.fate == tensor.fate && p.can_be_renamed == renameable
        };
        let problem = match problems.iter_mut().find(same) {
            Some(problem) => problem,
            None => {
                problems.push(Problem {
                    can_be_renamed: renameable,
                    ..Problem::whole(tensor.rule, tensor.fate, tensor.why.clone())
                });
                problems.last_mut().expect("pushed just now")
            }
        };
        problem.count += 1;
        if problem.examples.len() < 2 {
            problem.examples.push(tensor.name.clone());
        }
    }
    problems
}

/// Values that make an adapter useless: all B zero, or something that is no number.
pub(super) fn value_problems(adapter: &FoundAdapter, fates: &[TensorFate]) -> Vec<Problem> {
    let mut broken = Vec::new();
    let (mut b_tensors, mut zero) = (0, 0);
    for tensor in fates {
        let Ok((bytes, float)) = adapter.tensors.floats(
            &tensor.name,
            adapter.tensors.shape(&tensor.name).unwrap_or_default(),
        ) else {
            continue;
        };
        let (mut finite, mut any) = (true, false);
        for chunk in bytes.chunks(1 << 16) {
            for value in Float::to_f32(float, chunk) {
                finite &= value.is_finite();
                any |= value != 0.0;
            }
        }
        adapter.tensors.release(&tensor.name);
        if !finite {
            broken.push(tensor.name.clone());
        }
        if matches!(Name::parse(&tensor.name).part, Part::B | Part::EmbeddingB) {
            b_tensors += 1;
            zero += usize::from(!any);
        }
    }
    let mut problems = Vec::new();
    if !broken.is_empty() {
        problems.push(Problem {
            count: broken.len(),
            examples: broken.into_iter().take(2).collect(),
            ..Problem::whole(
                "not-finite",
                Fate::Wrong,
                "values are NaN or infinite".into(),
            )
        });
    }
    if b_tensors > 0 && zero == b_tensors {
        problems.push(Problem::whole(
            "zero",
            Fate::Wrong,
            "every B is zero: the adapter changes nothing".into(),
        ));
    }
    problems
}
