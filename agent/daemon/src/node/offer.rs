//! The model that a node shall run: offered with its signed manifest, served part by part, and ended by the node's own word.

use kilter_types::{Clock as _, Digest, Micros, Monotonic, Name, Role, RunningModel};
use kilter_wire::frame::Kind;
use kilter_wire::node::{NodeDown, NodeStatus};
use kilter_wire::{Chunk, Down, Fetch, SignedManifest};
use tracing::{info, warn};

use super::{Carrier, Parts, Word};
use crate::board::Model;
use crate::machine::Install;
use crate::recorder::Message;

/// One model on offer.
pub(super) struct Offer {
    pub(super) install: Install,
    pub(super) due: Monotonic,
    /// The control knows that the node has confirmed it.
    pub(super) confirmed: bool,
}

impl Carrier {
    /// What the node says of itself: shown, reported when it runs another model, and the end of an offer that it has confirmed.
    pub(super) fn hear(&mut self, status: NodeStatus) {
        let Parts { place, asset, outlet, words, settings, .. } = &self.parts;
        info!(
            %asset, boots = status.faults.boots, watchdog = status.faults.watchdog, panics = status.faults.panics,
            lost_samples = status.lost_samples, on_trial = status.on_trial, settings = status.settings,
            charge_uah_per_day = status.charge_uah_per_day, "node's status"
        );
        let before = self.status.as_ref().map(|before| before.model);
        if before != Some(status.model) {
            let running = status.model.map(|(digest, generation)| RunningModel {
                digest,
                role: Role::Leader,
                generation,
                expired: false,
                cost_us: 0.0,
            });
            let offered = self.offer.as_ref().filter(|offer| running.is_some_and(|r| r.digest == offer.install.digest));
            let expires = offered.map_or(Micros(i64::MAX), |offer| offer.install.expires);
            outlet.board.machine(*place, |machine| {
                machine.model(Role::Leader, running.map(|running| Model { running, expires }));
            });
            let _ = outlet.recorder.try_send(Message::Report(*place));
        }
        if let Some(offer) = &mut self.offer
            && !status.on_trial
            && !offer.confirmed
            && status.model.is_some_and(|(digest, _)| digest == offer.install.digest)
        {
            let word = Word::Confirmed { machine: *place, digest: offer.install.digest };
            offer.confirmed = words.try_send(word).is_ok();
        }
        outlet.board.machine(*place, |machine| machine.node = Some(status.clone()));
        let (wanted, holds) = (*settings, status.settings);
        self.status = Some(status);
        if wanted.generation > holds {
            info!(asset = %self.parts.asset, generation = wanted.generation, "settings for the node");
            self.send(Kind::NodeDown, &NodeDown::Settings(wanted));
        }
    }

    /// The node does not want a model: the offer ends, unless what came was damaged.
    pub(super) fn refused(&mut self, model: Digest, reason: &Name) {
        if self.image_refused(model, reason) {
            return;
        }
        warn!(asset = %self.parts.asset, %model, %reason, "the node refused a model");
        let now = self.parts.clock.monotonic();
        if let Some(offer) = self.offer.take_if(|offer| [offer.install.digest, Digest::NONE].contains(&model)) {
            // What came damaged may come whole; every other reason stands until there is another plan.
            let again = DAMAGED.contains(&reason.as_str());
            self.offer = again.then_some(Offer { due: Monotonic(now.0 + DAMAGED_US), ..offer });
        }
    }

    /// Offers the model again while the node runs another.
    pub(super) fn offer_again(&mut self, now: Monotonic) {
        if let (Some(offer), Some(status)) = (&mut self.offer, &self.status)
            && !self.renewal.is_under_way()
            && now >= offer.due
            && !status.on_trial
            && status.model.map(|(digest, _)| digest) != Some(offer.install.digest)
        {
            offer.due = Monotonic(now.0 + OFFER_US);
            let digest = offer.install.digest;
            if let Some((manifest, signature)) = offer.install.signed.clone() {
                info!(asset = %self.parts.asset, model = %digest, "model offered to the node");
                let signed = SignedManifest { manifest: &manifest, signature: &signature };
                self.send(Kind::NodeDown, &NodeDown::Model(signed));
            }
        }
    }

    pub(super) fn serve(&mut self, fetch: &Fetch) {
        if self.serve_image(fetch) {
            return;
        }
        let offered = self.offer.as_mut().filter(|offer| offer.install.digest == fetch.digest);
        let Some(offer) = offered else { return };
        // It is on its way: no need to offer it meanwhile.
        offer.due = Monotonic(self.parts.clock.monotonic().0 + OFFER_US);
        let bytes = &offer.install.bytes;
        let from = (fetch.offset as usize).min(bytes.len());
        let part = bytes[from..(from + fetch.len as usize).min(bytes.len())].to_vec();
        let total = u32::try_from(bytes.len()).unwrap_or(0);
        let chunk = Chunk { digest: fetch.digest, offset: fetch.offset, total, bytes: &part };
        self.send(Kind::Down, &Down::Chunk(chunk));
    }
}

const OFFER_US: u64 = 15_000_000;
/// Reasons of a node that speak of what came, not of what was planned.
const DAMAGED: [&str; 3] = ["digest", "order", "flash"];
const DAMAGED_US: u64 = 300_000_000;
