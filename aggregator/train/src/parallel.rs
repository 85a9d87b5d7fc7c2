//! Work side by side on several threads; results come in the order of the work.
//!
//! Threads change when a piece is done, never what comes out of it: a piece sees nothing of another.

use std::sync::{Mutex, PoisonError, mpsc};

/// What is done with an item; what it tells on the way goes to the second argument.
pub type Work<'w, T, P, R> = dyn Fn(T, &mut dyn FnMut(P)) -> R + Sync + 'w;

/// Works on every item with so many threads. What the work tells on the way is heard on the caller's thread.
pub fn each<T: Send, P: Send, R: Send>(
    items: Vec<T>,
    workers: usize,
    work: &Work<'_, T, P, R>,
    hear: &mut dyn FnMut(P),
) -> Vec<R> {
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let workers = workers.clamp(1, items.len().max(1));
    let queue = Mutex::new(items.into_iter().enumerate());
    let (say, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (say, queue) = (say.clone(), &queue);
            let labour = move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((place, item)) = next else { return };
                    // The listener lives as long as the scope.
                    let result = work(item, &mut |step| drop(say.send(Word::Step(step))));
                    drop(say.send(Word::Done(place, result)));
                }
            };
            let builder = std::thread::Builder::new().name("worker".into()).stack_size(STACK_BYTES);
            builder.spawn_scoped(scope, labour).expect("the system has a thread left");
        }
        drop(say);
        for word in told {
            match word {
                Word::Step(step) => hear(step),
                Word::Done(place, result) => results[place] = Some(result),
            }
        }
    });
    results.into_iter().map(|result| result.expect("a worker took each item")).collect()
}

/// As many threads as the machine runs at once.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

enum Word<P, R> {
    Step(P),
    Done(usize, R),
}

/// The kernel's scratch lies on the stack.
const STACK_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_order_of_the_work_whatever_the_number_of_threads() {
        let expected: Vec<u64> = (0..50).map(|n| n * n).collect();
        for workers in [1, 2, 7] {
            let mut heard = Vec::new();
            let work = |n: u64, say: &mut dyn FnMut(u64)| {
                say(n);
                n * n
            };
            assert_eq!(each((0..50).collect(), workers, &work, &mut |n| heard.push(n)), expected);
            heard.sort_unstable();
            assert_eq!(heard, (0..50).collect::<Vec<_>>());
        }
        assert!(each(Vec::new(), 2, &|n: u8, _: &mut dyn FnMut(())| n, &mut drop).is_empty());
    }

    #[test]
    fn as_many_pieces_as_threads_are_worked_on_at_the_same_time() {
        let both = std::sync::Barrier::new(2);
        // Neither comes back before the other is there.
        let meet = |n: u8, _: &mut dyn FnMut(())| (n, both.wait().is_leader());
        let met = each(vec![1, 2], 2, &meet, &mut drop);
        assert_eq!(met.iter().filter(|(_, leads)| *leads).count(), 1);
    }
}
