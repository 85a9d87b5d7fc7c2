//! What a node is to do, one thing at a time and again until it answers: a line may lose it, and a node may be off it for hours.
//!
//! A person's command goes on under the aggregator's id and ends with it. What the gateway itself asks for (a fresh baseline after
//! maintenance) survives a restart of the agent, and a node that can't do it yet, because it does not know the time, is asked again
//! under another id.

use std::collections::VecDeque;

use kilter_types::{Micros, Monotonic};
use kilter_wire::{Command, CommandKind, CommandResult, Outcome};
use serde::{Deserialize, Serialize};

/// Commands that the node has not answered.
#[derive(Debug, Default)]
pub(super) struct Errands {
    waiting: VecDeque<Errand>,
    /// When the first one is sent again.
    due: Monotonic,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Errand {
    pub(super) command: Command,
    /// The gateway's own: nobody else waits for its end.
    pub(super) own: bool,
}

impl Errands {
    /// What was kept over the restart.
    pub(super) fn resume(kept: Vec<Errand>) -> Self {
        Self { waiting: kept.into(), due: Monotonic(0) }
    }

    /// One more; the same command twice is one errand.
    pub(super) fn add(&mut self, command: Command, own: bool) {
        let known = self.waiting.iter().any(|errand| errand.command.id == command.id);
        if !known && self.waiting.len() < MOST {
            self.waiting.push_back(Errand { command, own });
        }
    }

    /// What is to be sent now.
    pub(super) fn poll(&mut self, now: Monotonic, wall: Micros) -> Option<Command> {
        let before = self.waiting.len();
        self.waiting.retain(|errand| errand.command.expires >= wall);
        if self.waiting.len() < before {
            self.due = Monotonic(0);
        }
        let first = self.waiting.front().filter(|_| now >= self.due)?;
        self.due = Monotonic(now.0.saturating_add(AGAIN_US));
        Some(first.command.clone())
    }

    /// The node has answered; the errand that this ends. `fresh` is the id for one that is tried again.
    pub(super) fn end(&mut self, result: CommandResult, fresh: u64, now: Monotonic) -> Option<Errand> {
        let first = self.waiting.front_mut().filter(|errand| errand.command.id == result.id)?;
        if first.own && result.outcome == Outcome::Refused {
            first.command.id = fresh;
            self.due = Monotonic(now.0.saturating_add(LATER_US));
            return None;
        }
        self.due = Monotonic(0);
        self.waiting.pop_front()
    }

    /// What a restart must know.
    pub(super) fn keep(&self) -> Vec<Errand> {
        self.waiting.iter().filter(|errand| errand.own).cloned().collect()
    }
}

/// The same in the words of a node that came before version 3.
pub(super) fn in_version_2(kind: CommandKind) -> CommandKind {
    match kind {
        CommandKind::ResetBy { asset, .. } => CommandKind::Reset { asset },
        CommandKind::Flush
        | CommandKind::Recommission { .. }
        | CommandKind::Reset { .. }
        | CommandKind::Clip { .. } => kind,
    }
}

const MOST: usize = 8;
const AGAIN_US: u64 = 5_000_000;
const LATER_US: u64 = 15_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn recommission(id: u64) -> Command {
        let asset = kilter_types::Name::new("pump-1").expect("a good name");
        Command { id, expires: Micros(100), kind: CommandKind::Recommission { asset } }
    }

    fn id(errands: &mut Errands, now: u64) -> Option<u64> {
        errands.poll(Monotonic(now), Micros(50)).map(|command| command.id)
    }

    #[test]
    fn an_errand_is_sent_until_it_is_answered_and_the_next_one_waits() {
        let mut errands = Errands::default();
        for number in [1, 2, 1] {
            errands.add(recommission(number), false);
        }
        assert_eq!((id(&mut errands, 0), id(&mut errands, 1), id(&mut errands, AGAIN_US)), (Some(1), None, Some(1)));
        let done = |id| CommandResult { id, outcome: Outcome::Done };
        assert_eq!(errands.end(done(2), 9, Monotonic(0)), None, "it was not asked yet");
        let ended = errands.end(done(1), 9, Monotonic(0)).expect("it was the first");
        assert_eq!((ended.command.id, id(&mut errands, AGAIN_US + 1)), (1, Some(2)));
        assert_eq!(errands.poll(Monotonic(u64::MAX), Micros(101)), None, "it has expired");
        assert!(errands.keep().is_empty());
    }

    #[test]
    fn what_the_gateway_asks_for_is_asked_again_after_a_refusal_and_a_restart() {
        let mut errands = Errands::default();
        errands.add(recommission(1), true);
        assert_eq!(id(&mut errands, 0), Some(1));
        let refused = CommandResult { id: 1, outcome: Outcome::Refused };
        assert_eq!(errands.end(refused, 7, Monotonic(10)), None);
        assert_eq!((id(&mut errands, LATER_US), id(&mut errands, LATER_US + 10)), (None, Some(7)));
        let mut errands = Errands::resume(errands.keep());
        assert_eq!(id(&mut errands, 0), Some(7));
        assert!(errands.end(CommandResult { id: 7, outcome: Outcome::Done }, 8, Monotonic(0)).is_some());
        assert!(errands.keep().is_empty());
    }
}
