//! Which recordings are meant, with what is declared about each: by the command line for a file, by `meta.json` for a folder.

use std::path::PathBuf;

use anyhow::Context as _;
use kilter_recording::{Bearing, Declaration, Recording};
use kilter_signal::bearing::{Geometry, Orders};
use kilter_types::{Hertz, Rpm, Unit};

use super::Analyze;

/// One recording with its bearing.
pub(crate) struct Record {
    /// The file's name; nothing is concluded from it.
    pub(crate) file: String,
    pub(crate) recording: Recording,
    pub(crate) bearing: Option<Orders>,
}

/// The recordings, each read when its turn comes.
pub(crate) fn records(ask: &Analyze) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Record>>> {
    let unit = ask.unit.as_deref().map(Unit::parse).transpose();
    let unit = unit.map_err(|error| anyhow::anyhow!("read --unit {}: {error}", ask.unit.as_deref().unwrap_or("")))?;
    let bearing = match (&ask.orders, &ask.bearing) {
        (Some(text), _) => Some(orders(text)?),
        (None, Some(text)) => Some(named(text).with_context(|| format!("read --bearing {text}"))?),
        (None, None) => None,
    };
    if let Some(rpm) = ask.rpm {
        anyhow::ensure!(
            rpm > 0.0 && rpm.is_finite(),
            "read --rpm {rpm}: a speed is above 0; leave it out if not known"
        );
    }
    let mut wanted: Vec<(PathBuf, Declaration)> = Vec::new();
    if ask.file.is_dir() {
        let declared = [ask.rate.is_some(), unit.is_some(), ask.rpm.is_some(), bearing.is_some()];
        anyhow::ensure!(
            !declared.contains(&true),
            "analyse the folder {}: its meta.json declares rate, unit, speed and bearing of each record; leave --rate, --unit, --rpm, --bearing and --orders out",
            ask.file.display()
        );
        let folder = kilter_recording::read_folder(&ask.file)
            .with_context(|| format!("analyse the folder {} (it needs a meta.json)", ask.file.display()))?;
        wanted.extend(folder.into_iter().map(|record| (record.path, record.declaration)));
        anyhow::ensure!(!wanted.is_empty(), "analyse the folder {}: its meta.json names no record", ask.file.display());
    } else {
        let declaration = Declaration {
            rate: ask.rate.map(Hertz),
            unit,
            rpm: ask.rpm.map(Rpm),
            full_scale: ask.full_scale,
            ..Declaration::default()
        };
        wanted.push((ask.file.clone(), declaration));
    }
    Ok(wanted.into_iter().map(move |(path, declaration)| read(path, &declaration, bearing)))
}

fn read(path: PathBuf, declaration: &Declaration, bearing: Option<Orders>) -> anyhow::Result<Record> {
    let recording =
        kilter_recording::open(&path, declaration).with_context(|| format!("analyse {}", path.display()))?;
    let declared = recording.bearing.as_ref().map(|bearing| match bearing {
        Bearing::Designation(text) => named(text).with_context(|| format!("read the bearing {text:?}")),
        Bearing::Orders { bpfo, bpfi, bsf, ftf } => Ok(Orders::new(*bpfo, *bpfi, *bsf, *ftf)?),
    });
    let declared = declared.transpose().with_context(|| format!("analyse {}", path.display()))?;
    let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Record { file, recording, bearing: bearing.or(declared) })
}

/// `6205`, `balls=9,ball=7.94,pitch=39.04,angle=0`, or orders as `--orders` takes them.
fn named(text: &str) -> anyhow::Result<Orders> {
    if !text.contains('=') {
        let known = || kilter_signal::bearing::designations().collect::<Vec<_>>().join(", ");
        return Orders::catalogue(text).with_context(|| {
            format!("find a bearing of that name: {} are built in; of others give the geometry (balls=9,ball=7.94,pitch=39.04,angle=0) or --orders", known())
        });
    }
    if text.contains("bpfo") {
        return orders(text);
    }
    let [balls, ball_mm, pitch_mm] = numbers(text, ["balls", "ball", "pitch"], &["angle"])?;
    let angle_deg = optional(text, "angle")?.unwrap_or(0.0);
    anyhow::ensure!(
        balls.fract() == 0.0 && (3.0..=255.0).contains(&balls),
        "use {balls} balls; a bearing has 3 to 255"
    );
    Ok(Geometry { balls: balls as u8, ball_mm, pitch_mm, angle_deg }.orders()?)
}

/// `bpfo=3.585,bpfi=5.415,bsf=2.357,ftf=0.398`.
fn orders(text: &str) -> anyhow::Result<Orders> {
    let read = || -> anyhow::Result<Orders> {
        let [bpfo, bpfi, bsf, ftf] = numbers(text, ["bpfo", "bpfi", "bsf", "ftf"], &[])?;
        Ok(Orders::new(bpfo, bpfi, bsf, ftf)?)
    };
    read().with_context(|| format!("read the orders {text:?} (bpfo=3.585,bpfi=5.415,bsf=2.357,ftf=0.398 is the form)"))
}

fn numbers<const N: usize>(text: &str, keys: [&str; N], others: &[&str]) -> anyhow::Result<[f32; N]> {
    for pair in text.split(',') {
        let key = pair.split('=').next().unwrap_or("").trim();
        let known = keys.contains(&key) || others.contains(&key);
        anyhow::ensure!(
            known,
            "use {key:?}; the keys are {}",
            keys.iter().chain(others).copied().collect::<Vec<_>>().join(", ")
        );
    }
    let mut values = [0.0; N];
    for (value, key) in values.iter_mut().zip(keys) {
        *value = optional(text, key)?.with_context(|| format!("find {key}=…"))?;
    }
    Ok(values)
}

fn optional(text: &str, key: &str) -> anyhow::Result<Option<f32>> {
    let pair = text.split(',').find_map(|pair| pair.split_once('=').filter(|(name, _)| name.trim() == key));
    pair.map(|(_, value)| value.trim().parse().with_context(|| format!("read {key}={value}: a number is needed")))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearing_is_read_by_name_by_geometry_and_by_orders_alike() {
        let by_name = named("SKF 6205-2RS (DE)").expect("built in");
        let by_geometry = named("balls=9, ball=7.94, pitch=39.04, angle=0").expect("a geometry");
        assert_eq!(by_name, by_geometry);
        let by_orders = orders("ftf=0.398,bpfo=3.585,bpfi=5.415,bsf=2.357").expect("orders in any order");
        assert!((by_orders.bpfo - by_name.bpfo).abs() < 1e-3 && (by_orders.bsf - by_name.bsf).abs() < 1e-3);
    }

    #[test]
    fn a_bearing_that_cannot_be_is_refused_with_its_remedy() {
        let error = |text: &str| format!("{:#}", named(text).expect_err("no bearing"));
        assert!(error("99999").contains("6205") && error("99999").contains("--orders"), "{}", error("99999"));
        assert!(error("balls=9,ball=7.94").contains("pitch"));
        assert!(error("balls=9,ball=7.94,pitch=3,angle=0").contains("geometry"));
        assert!(error("balls=9,bal=7.94,pitch=39").contains("\"bal\""));
        assert!(error("bpfo=3.5,bpfi=x,bsf=2,ftf=0.4").contains("bpfi=x"));
    }
}
