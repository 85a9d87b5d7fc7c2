//! The definitions beyond Set S: what an examination of a whole recording computes, and its evidence points to.
//!
//! They stand in no row's vector, so adding one changes no schema.

use kilter_types::FeatureId;

use super::{Feature, entry};
use crate::{bearing_sign::Part, verdict::Figure};

/// The feature behind a figure of a part of the bearing.
pub const fn sign_id(part: Part, figure: Figure) -> FeatureId {
    FeatureId(FIRST + 3 * part as u16 + figure as u16)
}

/// Number of the ratio of mesh sidebands to the mesh.
pub const GEAR_SIDEBANDS: FeatureId = FeatureId(FIRST + 12);
/// Number of the amplitude at the mesh.
pub const GEAR_MESH: FeatureId = FeatureId(FIRST + 13);

/// Number of the housing's temperature beyond what its own model expects.
pub const THERMAL_RESIDUAL: FeatureId = FeatureId(FIRST + 14);

/// Everything that stands in no row: what an examination computes, and what evidence alone speaks of.
pub const EXAMINED: [Feature; 15] = [
    entry(
        201,
        "bpfo_share",
        "1",
        0.1,
        "part of the envelope's variance in the lines at 1 to 4 times BPFO at their common best slip within 2.5 %",
    ),
    entry(
        202,
        "bpfo_likelihood",
        "nats",
        10.0,
        "sum over 1 to 4 times BPFO of ln 2 (line / local median)^2, at most 14 each, at the best common slip",
    ),
    entry(203, "bpfo_dominance", "1", 1.0, "bpfo_share over the greatest share of inner race and rolling element"),
    entry(
        204,
        "bpfi_share",
        "1",
        0.1,
        "part of the envelope's variance in the lines at 1 to 4 times BPFI and one shaft speed beside each",
    ),
    entry(
        205,
        "bpfi_likelihood",
        "nats",
        10.0,
        "sum over 1 to 4 times BPFI of ln 2 (line / local median)^2, at most 14 each, at the best common slip",
    ),
    entry(206, "bpfi_dominance", "1", 1.0, "bpfi_share over the greatest share of outer race and rolling element"),
    entry(
        207,
        "bsf2_share",
        "1",
        0.1,
        "part of the envelope's variance in the lines at 1 to 4 times 2xBSF and one cage speed beside each",
    ),
    entry(
        208,
        "bsf2_likelihood",
        "nats",
        10.0,
        "sum over 1 to 4 times 2xBSF of ln 2 (line / local median)^2, at most 14 each, at the best common slip",
    ),
    entry(209, "bsf2_dominance", "1", 1.0, "bsf2_share over the greatest share of outer and inner race"),
    entry(210, "ftf_share", "1", 0.1, "part of the envelope's variance in the lines at 1 to 4 times FTF"),
    entry(
        211,
        "ftf_likelihood",
        "nats",
        10.0,
        "sum over 1 to 4 times FTF of ln 2 (line / local median)^2, at most 14 each, at the best common slip",
    ),
    entry(212, "ftf_dominance", "1", 1.0, "ftf_share over the greatest share of races and rolling element"),
    entry(
        213,
        "gear_sideband_ratio",
        "1",
        0.1,
        "mean amplitude of the two lines one shaft speed beside the mesh over the amplitude at the mesh",
    ),
    entry(214, "gear_mesh_amplitude", "g", 0.1, "amplitude (0 to peak) at the mesh frequency in the Hann spectrum"),
    entry(
        215,
        "thermal_residual",
        "K",
        10.0,
        "temperature above the reference less what the machine's own first-order model of speed, load and warming expects",
    ),
];

const FIRST: u16 = 201;
