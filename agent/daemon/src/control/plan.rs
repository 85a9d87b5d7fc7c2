//! Plans: what the aggregator wants to run here, checked, and what of it is to be done.

use kilter_types::{Digest, Generation, Manifest, Role};
use kilter_wire::Plan;
use tracing::{error, info, warn};

use super::Control;
use crate::machine::Order;
use crate::models::{Refusal, Wanted, assign, check_manifest, check_plan};

impl Control {
    /// Follows a plan; `fresh` is its frame, `None` for the one that was followed before a restart.
    pub(super) fn take_plan(&mut self, plan: &Plan<'_>, fresh: Option<&[u8]>) {
        let last = if fresh.is_some() { self.work.generation } else { Generation(plan.generation.0.saturating_sub(1)) };
        let manifests = match check_plan(plan, &self.device, &self.key, last) {
            Ok(manifests) => manifests,
            Err(Refusal::Generation { found, last }) if found == last => return,
            Err(refusal) => {
                error!(generation = plan.generation.0, reason = %refusal, "plan refused");
                self.board.lock().plans_refused += 1;
                let digests = plan.models.iter().filter_map(|model| model.verify(&self.key).ok()).map(|m| m.digest);
                let model = digests.into_iter().next().unwrap_or(Digest::NONE);
                return self.refuse(0, model, refusal.word());
            }
        };
        if let Some(frame) = fresh
            && let Err(error) = self.store.save_plan(frame)
        {
            // Following it without remembering it would let an older one in after a restart.
            return error!(%error, generation = plan.generation.0, "plan not followed: it can't be saved");
        }
        info!(generation = plan.generation.0, models = plan.models.len(), "plan");
        self.work.generation = plan.generation;
        self.board.lock().generation = plan.generation;
        let mut good: Vec<Manifest> = Vec::new();
        for manifest in manifests {
            match manifest {
                Ok(manifest) => good.push(manifest),
                Err(refusal) => {
                    error!(reason = %refusal, "model refused");
                    self.refuse(0, Digest::NONE, refusal.word());
                }
            }
        }
        let takes = |wanted: &Wanted| wanted.manifest.role == Role::Leader || !self.is_node(wanted.machine);
        let (wanted, shadows): (Vec<_>, Vec<_>) = assign(&self.machines, &good).into_iter().partition(takes);
        if fresh.is_some() {
            self.refuse_shadows(&shadows, &wanted);
        }
        self.remove_unwanted(&wanted);
        self.work.damaged.clear();
        self.work.offered.clear();
        self.work.wanted = wanted.into_iter().filter(|wanted| self.is_to_do(wanted, fresh.is_some())).collect();
        let digests: Vec<Digest> = self.work.wanted.iter().map(|wanted| wanted.manifest.digest).collect();
        self.work.fetcher = self.work.fetcher.take().filter(|fetcher| digests.contains(&fetcher.digest()));
        self.store.tidy(&digests);
        (0..self.machines.len()).for_each(|machine| self.report(machine));
    }

    /// `false` when it runs already or must not.
    fn is_to_do(&self, wanted: &Wanted, fresh: bool) -> bool {
        let (best, uncertainty) = self.clock.best();
        let asset = &self.machines[wanted.machine].asset;
        let follows = self.store.may_follow(asset, &wanted.manifest);
        if follows == Ok(false) {
            if let Err(error) = self.store.renew(asset, &wanted.manifest) {
                error!(%asset, %error, "model state not saved");
            }
            let (role, generation, expires) =
                (wanted.manifest.role, wanted.manifest.generation, wanted.manifest.expires);
            self.board.machine(wanted.machine, |machine| {
                if let Some(model) = machine.models.iter_mut().find(|model| model.running.role == role) {
                    (model.running.generation, model.expires) = (generation, expires);
                }
            });
            return false;
        }
        let refusal = follows.and_then(|_| check_manifest(&wanted.manifest, best, uncertainty));
        if let Err(refusal) = &refusal {
            error!(%asset, model = %wanted.manifest.digest, reason = %refusal, "model refused");
            if fresh {
                self.refuse(wanted.machine, wanted.manifest.digest, refusal.word());
            }
        }
        refusal.is_ok()
    }

    /// Says beforehand which machines take no shadow, so that none is planned for them: a refusal of no model in particular.
    pub(super) fn declare_room(&self) {
        (0..self.machines.len())
            .filter(|machine| self.is_node(*machine))
            .for_each(|machine| self.refuse(machine, Digest::NONE, LEADERS_ONLY));
    }

    /// A node has room for one model, the leader, and its fleet hears why there is no shadow. Where a machine of the agent's own takes
    /// that shadow nothing is said: the aggregator counts a refusal against the whole gateway.
    fn refuse_shadows(&self, shadows: &[Wanted], taken: &[Wanted]) {
        for Wanted { machine, manifest } in shadows {
            if taken.iter().any(|wanted| wanted.manifest.digest == manifest.digest) {
                continue;
            }
            let asset = &self.machines[*machine].asset;
            warn!(%asset, model = %manifest.digest, reason = LEADERS_ONLY, "model refused");
            self.refuse(*machine, manifest.digest, LEADERS_ONLY);
        }
    }

    /// Models that the plan does not name are to go.
    fn remove_unwanted(&self, wanted: &[Wanted]) {
        for (machine, candidate) in self.machines.iter().enumerate() {
            for role in [Role::Leader, Role::Shadow] {
                let named = wanted.iter().any(|wanted| wanted.machine == machine && wanted.manifest.role == role);
                if named {
                    continue;
                }
                if let Err(error) = self.store.clear(&candidate.asset, role) {
                    error!(asset = %candidate.asset, %error, "model state not saved");
                }
                self.order(machine, Order::Remove(role));
            }
        }
    }
}

/// The word that a node itself has for a shadow.
const LEADERS_ONLY: &str = "leaders_only";
