//! A long file in batches of lines, with all threads at work: while one batch is looked at in parallel,
//! the batch before is taken in order and the next one is read.

use vlft_base::Result;

/// Reads batches until `read` gives none, has `look` see each, and gives them to `take` in order with what
/// was seen. `look` runs on rayon's threads, `read` and `take` on the caller's; with one thread they take
/// turns. Before an error of `read` is returned, what was read before it is taken.
pub(crate) fn each<B: Send + Sync, L: Send>(
    mut read: impl FnMut() -> Result<Option<B>>,
    look: impl Fn(&B) -> L + Sync,
    mut take: impl FnMut(&B, &mut L) -> Result<()>,
) -> Result<()> {
    let mut next = read();
    let mut before: Option<(B, L)> = None;
    while let Ok(Some(batch)) = next {
        let mut looked = None;
        let (taken, following) = rayon::in_place_scope(|scope| {
            match rayon::current_num_threads() {
                1 => looked = Some(look(&batch)),
                _ => scope.spawn(|_| looked = Some(look(&batch))),
            }
            let taken = match &mut before {
                Some((batch, looked)) => take(batch, looked),
                None => Ok(()),
            };
            // To free thousands of small things is work too.
            scope.spawn(move |_| drop(before));
            (taken, read())
        });
        taken?;
        before = looked.map(|looked| (batch, looked));
        next = following;
    }
    if let Some((batch, looked)) = &mut before {
        take(batch, looked)?;
    }
    next.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlft_base::Diagnostic;

    fn run(
        count: usize,
        fails_at: Option<usize>,
        refuses: Option<usize>,
        threads: usize,
    ) -> (Vec<usize>, bool) {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let (mut at, mut seen) = (0, Vec::new());
        let result = pool.install(|| {
            each(
                || {
                    at += 1;
                    match Some(at - 1) == fails_at {
                        true => Err(Diagnostic::error("cannot read")),
                        false => Ok((at <= count).then_some(at - 1)),
                    }
                },
                |batch| batch * 10,
                |batch, looked| {
                    assert_eq!(*looked, batch * 10);
                    seen.push(*batch);
                    match Some(*batch) == refuses {
                        true => Err(Diagnostic::error("cannot take")),
                        false => Ok(()),
                    }
                },
            )
        });
        (seen, result.is_ok())
    }

    #[test]
    fn batches_come_in_order_and_those_before_an_error_too() {
        for threads in [1, 3] {
            for count in [0, 1, 2, 9] {
                assert_eq!(
                    run(count, None, None, threads),
                    ((0..count).collect(), true)
                );
            }
            assert_eq!(run(9, Some(0), None, threads), (vec![], false));
            assert_eq!(run(9, Some(1), None, threads), (vec![0], false));
            assert_eq!(run(9, Some(4), None, threads), (vec![0, 1, 2, 3], false));
            assert_eq!(run(9, None, Some(2), threads), (vec![0, 1, 2], false));
            assert_eq!(run(3, None, Some(2), threads), (vec![0, 1, 2], false));
        }
    }
}
