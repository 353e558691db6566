//! Which lane takes which case next.
//!
//! Any lane takes a case for a probe that has nothing beside the wire: each lane has one. A probe that asks
//! libraries or reads a key log is slow to build, on an emulated processor a dozen seconds, so such cases wait
//! for the lane that has theirs, and another takes them only when it would otherwise be idle and enough are
//! left to be worth a probe of its own. Knows nothing of how a case is run.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::scenario::Beside;

/// A probe takes about as long to start as this many cases to run.
const WORTH_A_PROBE: usize = 4;

/// Jobs of cases, for a number of lanes.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    anyones: VecDeque<T>,
    /// By lane.
    kept: Vec<VecDeque<T>>,
    /// Lanes that have not gone.
    lanes: usize,
    closed: bool,
}

/// A lane is there until this is dropped, by its end or by its panic: what waits for it is then anyone's, and
/// what is left when all have gone is dropped, so that nobody waits for it.
#[derive(Debug)]
pub(super) struct Present<'a, T> {
    queue: &'a Queue<T>,
    lane: usize,
}

impl<T> Queue<T> {
    /// Of `lanes` lanes, at least one.
    pub(super) fn new(lanes: usize) -> Self {
        let lanes = lanes.max(1);
        Self {
            state: Mutex::new(State {
                anyones: VecDeque::new(),
                kept: (0..lanes).map(|_| VecDeque::new()).collect(),
                lanes,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Adds jobs, all at once: a lane that looks in between would take what is another's.
    pub(super) fn put(&self, jobs: impl IntoIterator<Item = (Beside, T)>) {
        let mut state = self.state();
        let lanes = state.kept.len();
        for (beside, job) in jobs {
            match home(beside) {
                None => state.anyones.push_back(job),
                Some(lane) => state.kept[lane % lanes].push_back(job),
            }
        }
        self.changed.notify_all();
    }

    /// Nothing will be added: who finds no job goes home.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// A lane at work; each is there once.
    pub(super) fn join(&self, lane: usize) -> Present<'_, T> {
        Present { queue: self, lane }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Present<'_, T> {
    /// The next job, waited for; `None` when there will be none.
    pub(super) fn take(&self) -> Option<T> {
        let mut state = self.queue.state();
        loop {
            if let Some(job) = state.take(self.lane) {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self
                .queue
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Present<'_, T> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        let orphaned = std::mem::take(&mut state.kept[self.lane]);
        state.anyones.extend(orphaned);
        state.lanes -= 1;
        if state.lanes == 0 {
            state.anyones.clear();
        }
        self.queue.changed.notify_all();
    }
}

impl<T> State<T> {
    fn take(&mut self, lane: usize) -> Option<T> {
        if let Some(job) = self.kept[lane].pop_front() {
            return Some(job);
        }
        if let Some(job) = self.anyones.pop_front() {
            return Some(job);
        }
        let most = self.kept.iter_mut().max_by_key(|kept| kept.len())?;
        (most.len() >= WORTH_A_PROBE)
            .then(|| most.pop_back())
            .flatten()
    }
}

/// The lane that has such a probe, before it is taken by how many there are.
fn home(beside: Beside) -> Option<usize> {
    match beside {
        Beside::Nothing => None,
        Beside::KeyLog => Some(0),
        Beside::Library => Some(1),
        Beside::LibraryDeep => Some(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(lanes: usize, jobs: &[(Beside, u32)]) -> Queue<u32> {
        let queue = Queue::new(lanes);
        queue.put(jobs.iter().copied());
        queue.close();
        queue
    }

    fn rest(lane: &Present<'_, u32>) -> Vec<u32> {
        std::iter::from_fn(|| lane.take()).collect()
    }

    #[test]
    fn a_lane_takes_its_own_first_then_anyones_in_order() {
        let queue = queue(
            3,
            &[
                (Beside::Nothing, 1),
                (Beside::Library, 2),
                (Beside::Nothing, 3),
                (Beside::KeyLog, 4),
            ],
        );
        let [zero, one, two] = [0, 1, 2].map(|lane| queue.join(lane));
        assert_eq!(one.take(), Some(2));
        assert_eq!(one.take(), Some(1));
        assert_eq!(rest(&zero), [4, 3]);
        assert_eq!(two.take(), None);
    }

    #[test]
    fn what_is_anothers_is_taken_only_where_it_is_worth_a_probe() {
        let jobs: Vec<_> = (0..5).map(|job| (Beside::LibraryDeep, job)).collect();
        let queue = queue(3, &jobs);
        let [zero, _one, two] = [0, 1, 2].map(|lane| queue.join(lane));
        // Five, then four are left; three are not worth it.
        assert_eq!(rest(&zero), [4, 3]);
        assert_eq!(rest(&two), [0, 1, 2]);
    }

    #[test]
    fn one_lane_takes_all() {
        let queue = queue(
            1,
            &[
                (Beside::LibraryDeep, 1),
                (Beside::Nothing, 2),
                (Beside::Library, 3),
            ],
        );
        assert_eq!(rest(&queue.join(0)), [1, 3, 2]);
    }

    #[test]
    fn who_waits_is_woken_by_a_job_and_by_the_end() {
        let queue = Queue::new(2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let lane = queue.join(1);
                [lane.take(), lane.take()]
            });
            queue.put([(Beside::Nothing, 7)]);
            queue.close();
            assert_eq!(waiting.join().unwrap(), [Some(7), None]);
        });
    }

    #[test]
    fn what_waited_for_a_lane_that_is_gone_is_anyones_and_nobodys_when_all_are() {
        let job = std::rc::Rc::new(());
        let queue = Queue::new(2);
        queue.put((0..3).map(|_| (Beside::Library, job.clone())));
        queue.close();
        let [zero, one] = [0, 1].map(|lane| queue.join(lane));
        assert!(zero.take().is_none());
        drop(one);
        assert!(zero.take().is_some());
        assert_eq!(std::rc::Rc::strong_count(&job), 3);
        drop(zero);
        assert_eq!(std::rc::Rc::strong_count(&job), 1);
    }
}
