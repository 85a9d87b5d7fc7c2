//! The two model slots of a monitor: what is put in is checked first, and speaks from the next window on.

use kilter_infer::Layout;
use kilter_types::{Digest, Event, Generation, GroupKind, Name, Role, RowRef};

use super::Monitor;
use crate::{
    judge::ROLES,
    memory::Memory,
    model::{InstallError, Installed, places},
    output::{Output, What},
};

impl<M: Memory, const G: usize, const S: usize> Monitor<M, G, S> {
    /// Puts a model into a slot, between two windows: the next window of each group it serves is its first.
    ///
    /// A model that is refused leaves the one before in place. Either way an event says so. After a restart, install the
    /// models first (with a sink that drops the events) and restore the snapshot then.
    pub fn install(
        &mut self,
        slot: Role,
        bytes: M::Model,
        digest: Digest,
        generation: Generation,
        sink: &mut dyn FnMut(Output<'_>),
    ) -> Result<(), InstallError> {
        let place = slot_place(slot);
        let layout = match self.examine(bytes.as_ref()) {
            Ok(layout) => layout,
            Err(error) => {
                if let Ok(reason) = Name::new(error.as_str()) {
                    self.say(0, self.tally.at, What::Event(Event::ModelRefused { model: digest, reason }), sink);
                }
                return Err(error);
            }
        };
        let installed = Installed { bytes, layout, digest, generation, own: false };
        let from = self.models[place].as_ref().map_or(Digest::NONE, |model| model.digest);
        for i in 0..self.groups.len() {
            let group = &mut self.groups[i];
            let serves = self.config.groups[i].kind == layout_kind(&installed);
            let features =
                installed.artifact().filter(|_| serves).and_then(|artifact| places(&artifact, &group.schema));
            let served = features.is_some();
            group.judge.sequences[place].switch(features);
            if served {
                let first = RowRef { group: i as u8, index: group.index(), seq: 0 };
                let event = Event::ModelSwitched { from, to: digest, generation, first };
                self.say(i, self.tally.at, What::Event(event), sink);
            }
        }
        self.models[place] = Some(installed);
        Ok(())
    }

    /// The model in this slot was made for this very machine, from its own healthy windows, not for its kind: as leader it is heard
    /// without the baseline's consent.
    pub fn trust(&mut self, slot: Role) {
        if let Some(model) = &mut self.models[slot_place(slot)] {
            model.own = true;
        }
    }

    /// Takes the model out of a slot.
    pub fn remove(&mut self, slot: Role) {
        let place = slot_place(slot);
        self.models[place] = None;
        for group in &mut self.groups {
            group.judge.sequences[place].switch(None);
        }
    }

    /// The model in a slot and its generation.
    pub fn model(&self, slot: Role) -> Option<(Digest, Generation)> {
        self.models[slot_place(slot)].as_ref().map(|model| (model.digest, model.generation))
    }

    fn examine(&mut self, bytes: &[u8]) -> Result<Layout, InstallError> {
        let layout = Layout::parse(bytes)?;
        let artifact = layout.bind(bytes).ok_or(InstallError::Features)?;
        let kinds = self.config.groups.iter().zip(&self.groups);
        let mut serving = kinds
            .filter(|(config, group)| config.kind == artifact.group() && places(&artifact, &group.schema).is_some());
        if serving.next().is_none() {
            return Err(InstallError::Features);
        }
        let needed = artifact.state_floats();
        if needed > S {
            return Err(InstallError::Memory { needed, kept: S });
        }
        let mut state = kilter_infer::State::<S>::new();
        artifact.certify(&mut state, &mut self.kernel)?;
        Ok(layout)
    }
}

fn layout_kind<B: AsRef<[u8]>>(installed: &Installed<B>) -> GroupKind {
    installed.artifact().map_or(GroupKind::Vibration, |artifact| artifact.group())
}

fn slot_place(slot: Role) -> usize {
    ROLES.iter().position(|role| *role == slot).unwrap_or(0)
}
