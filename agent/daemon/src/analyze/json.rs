//! The findings as JSON: `{"records":[{"file","diagnosis":[{"cause","score","evidence"}],"windows":[…]}]}`.
//!
//! `diagnosis` always has an entry: without a named cause it is [`NO_FAULT`], with what came nearest as evidence.

use kilter_signal::bearing_sign::Part;
use kilter_signal::demodulate::Demodulation;
use kilter_signal::diagnose::Diagnosis;
use kilter_signal::health;
use kilter_signal::speed::Doubt;
use kilter_signal::table::{self, VIBRATION};
use kilter_signal::verdict;
use kilter_signal::zone::Zone;
use serde_json::{Map, Value, json};

use super::examine::{Examined, Said, UNREADABLE};

/// What is said where no cause is named.
pub(crate) const NO_FAULT: &str = "no clear fault";

/// All records.
pub(crate) fn records(all: &[Examined]) -> Value {
    json!({ "records": all.iter().map(record).collect::<Vec<_>>() })
}

fn record(examined: &Examined) -> Value {
    let mut record = said(&examined.whole);
    record.insert("file".to_owned(), json!(examined.file));
    record.insert("channel".to_owned(), json!(examined.channel));
    record.insert("rate_hz".to_owned(), json!(examined.rate.0));
    record.insert("rpm".to_owned(), json!(examined.rpm.map(|rpm| rpm.0)));
    let heard = examined.heard.map(|heard| {
        let doubt = heard.estimate.doubt.map(Doubt::as_str);
        json!({ "rpm": heard.rpm(), "sure": doubt.is_none(), "doubt": doubt, "lines": heard.estimate.lines })
    });
    record.insert("speed_estimate".to_owned(), json!(heard));
    let orders = examined.bearing.map(|b| json!({ "bpfo": b.bpfo, "bpfi": b.bpfi, "bsf": b.bsf, "ftf": b.ftf }));
    record.insert("orders".to_owned(), json!(orders));
    record.insert("window_samples".to_owned(), json!(examined.window_len));
    record.insert("notes".to_owned(), json!(examined.notes));
    let windows = examined.windows.iter().map(|window| {
        let mut entry = said(window);
        entry.insert("start_s".to_owned(), json!(window.start_s));
        entry.insert("end_s".to_owned(), json!(window.end_s));
        Value::Object(entry)
    });
    record.insert("windows".to_owned(), windows.collect());
    Value::Object(record)
}

fn said(said: &Said) -> Map<String, Value> {
    let features =
        VIBRATION.iter().enumerate().map(|(i, feature)| (feature.name.to_owned(), json!(said.features.get(i))));
    let peaks = |peaks: &[(f32, f32)]| -> Value {
        peaks.iter().map(|(f, a)| json!({ "frequency_hz": f, "amplitude_g": a })).collect()
    };
    let mut map = Map::new();
    map.insert("diagnosis".to_owned(), diagnosis(said));
    map.insert("severity_zone".to_owned(), json!(said.zone.map(Zone::as_str)));
    map.insert("sensor".to_owned(), json!(sensor(said)));
    let reasons = health::reasons(said.quality).map(|(name, reason)| json!({ "name": name, "reason": reason }));
    map.insert("sensor_reasons".to_owned(), reasons.collect());
    map.insert("features".to_owned(), features.collect::<Map<_, _>>().into());
    map.insert("spectrum_peaks".to_owned(), peaks(&said.spectrum_peaks));
    map.insert("envelope_peaks".to_owned(), peaks(&said.envelope_peaks));
    map.insert("bearing".to_owned(), bearing(said));
    map
}

/// The sensor's flags, or `ok`.
pub(crate) fn sensor(said: &Said) -> Vec<&'static str> {
    let flags: Vec<_> = said.quality.names().collect();
    if flags.is_empty() { vec!["ok"] } else { flags }
}

fn diagnosis(said: &Said) -> Value {
    let named = causes(&said.diagnosis);
    if !named.is_empty() {
        return named.into();
    }
    if said.quality.intersects(UNREADABLE) && said.sign.is_none() {
        let why = format!("the sensor is not well: {}", sensor(said).join(", "));
        return json!([{ "cause": "sensor", "score": 1.0, "evidence": [{ "text": why }] }]);
    }
    json!([{ "cause": NO_FAULT, "score": 1.0, "evidence": nearest(said).map(|text| json!([{ "text": text }])).unwrap_or_else(|| json!([])) }])
}

fn causes(diagnosis: &Diagnosis) -> Vec<Value> {
    let entry = |finding: &kilter_signal::diagnose::Finding| {
        let evidence = finding.evidence.iter().map(|line| {
            let known = table::describe(line.feature);
            let name = known.as_ref().map_or("", |k| k.name.as_str());
            let unit = known.as_ref().map_or("", |k| k.feature.unit);
            json!({
                "feature": name, "value": line.value, "limit": line.limit, "unit": unit,
                "text": format!("{name} {:.4} is above {:.4}", line.value, line.limit),
            })
        });
        json!({ "cause": finding.cause.as_str(), "score": finding.score, "evidence": evidence.collect::<Vec<_>>() })
    };
    diagnosis.findings().iter().map(entry).collect()
}

/// The part that came nearest to being named, in words.
pub(crate) fn nearest(said: &Said) -> Option<String> {
    let (demodulation, sign) = said.sign.as_ref()?;
    let (part, comb) = Part::ALL
        .into_iter()
        .filter_map(|part| Some((part, sign.combs[part as usize]?)))
        .max_by(|a, b| a.1.share.total_cmp(&b.1.share))?;
    let dominance = verdict::dominance(sign, part, &comb);
    Some(format!(
        "nearest is {}: {:.1} % of the envelope's variance ({}), {dominance:.1} times the next part, {:.0} nats against chance",
        part_name(part),
        100.0 * comb.share,
        demodulation_name(*demodulation),
        comb.likelihood
    ))
}

fn bearing(said: &Said) -> Value {
    let Some((demodulation, sign)) = &said.sign else { return Value::Null };
    let parts = Part::ALL.into_iter().filter_map(|part| {
        let comb = sign.combs[part as usize]?;
        let lines: Vec<Value> = comb
            .frequency
            .iter()
            .zip(comb.amplitude)
            .zip(comb.ratio)
            .map(|((f, a), r)| json!({ "frequency_hz": f.0, "amplitude_g": a, "ratio": r }))
            .collect();
        let entry = json!({
            "share": comb.share, "likelihood": comb.likelihood, "slip": comb.slip,
            "dominance": verdict::dominance(sign, part, &comb), "lines": lines,
        });
        Some((part_name(part).replace(' ', "_"), entry))
    });
    let mut map: Map<String, Value> = parts.collect();
    let band = demodulation.band();
    map.insert("band_hz".to_owned(), json!([band.low().0, band.high().0]));
    map.insert("whitened".to_owned(), json!(matches!(demodulation, Demodulation::Whitened(_))));
    Value::Object(map)
}

/// The word for a part.
pub(crate) fn part_name(part: Part) -> &'static str {
    match part {
        Part::Outer => "outer race",
        Part::Inner => "inner race",
        Part::Element => "rolling element",
        Part::Cage => "cage",
    }
}

/// Where an envelope comes from, in words.
pub(crate) fn demodulation_name(demodulation: Demodulation) -> String {
    let band = demodulation.band();
    let whitened = if matches!(demodulation, Demodulation::Whitened(_)) { ", whitened" } else { "" };
    format!("{:.0} to {:.0} Hz{whitened}", band.low().0, band.high().0)
}
