//! The report of a run: one HTML file with its pictures in it, for a person who decides whether to trust the model.
//!
//! Nothing is fetched and nothing runs: charts are inline SVG, colours follow the system's setting, and the file reads the same on a
//! phone and on paper.

mod chart;

use chart::{Chart, Scale, escaped};

use crate::{Card, Confusion, Evidence, Found, KeptSpeed, LifeModel, LifeWord, TrainedModel};

/// The report of a run's models, the leader first; `found` if its options were searched for.
pub fn report(models: &[TrainedModel], found: Option<&Found>) -> String {
    let Some(leader) = models.first() else { return page("No model", String::new()) };
    let mut body = String::new();
    for model in models {
        let Card { family, digest, why, rows, seed, .. } = &model.card;
        body += &format!(
            "<section><h2>{}: {}</h2><p>{}</p>{}<p class=\"quiet\">{rows} healthy windows, seed {seed}, <code>{}</code></p><div class=\"charts\">",
            if model.card.role == kilter_types::Role::Leader { "Leader" } else { "Shadow" },
            escaped(&family.replace('_', " ")),
            escaped(why),
            watched(&model.card),
            escaped(digest),
        );
        body += &loss(&model.evidence.losses);
        body += &scores(&model.evidence);
        body += &calibration(&model.evidence);
        body += &format!("</div>{}</section>", confusion(&model.evidence));
    }
    if let Some(found) = found {
        body += &search(found);
    }
    page(&leader.card.name, body)
}

/// The test in the terms of a person on watch.
fn watched(card: &Card) -> String {
    let figure = |name: &str| card.metrics.get(name).copied();
    let percent = |name: &str| figure(name).map_or_else(|| "no".to_owned(), |share| format!("{:.0} %", 100.0 * share));
    let mut text = format!(
        "<p>Of {:.0} faults that grew or were labelled {} were told; {} of the alarms were for a fault. On {:.3} machine-months of healthy \
         windows there were {:.0} false alarms{}{}.</p>",
        figure("events").unwrap_or_default(),
        percent("event_recall"),
        percent("event_precision"),
        figure("machine_months").unwrap_or_default(),
        figure("false_alarms").unwrap_or_default(),
        figure("false_alarms_per_machine_month").map(|rate| format!(", {rate:.2} a month")).unwrap_or_default(),
        figure("lead_time_secs")
            .map(|secs| format!("; faults were told {secs:.0} s before they were full-grown"))
            .unwrap_or_default(),
    );
    if let (Some(found), Some(above)) =
        (figure("held_out_machine_detection"), figure("held_out_machine_false_alarm_share"))
    {
        text += &format!(
            "<p>On machines that it never learned from: {:.1} % of simulated faults found, {:.2} % of healthy windows above the \
             threshold.</p>",
            100.0 * found,
            100.0 * above
        );
    }
    text + &kept_speeds(card)
}

/// What its like did at a speed that it never saw.
fn kept_speeds(card: &Card) -> String {
    let row = |score: &KeptSpeed| {
        let [low, high] = score.rpm;
        format!(
            "<tr><th scope=\"row\">{} of {low:.0} to {high:.0} rpm</th><td>{:.1} %</td><td>{:.2} %</td><td>{:.1} %</td><td>{:.2} %</td></tr>",
            escaped(&score.kept),
            100.0 * score.detection,
            100.0 * score.false_alarm_share,
            100.0 * score.rule_detection,
            100.0 * score.rule_false_alarm_share,
        )
    };
    match &card.no_kept_speed {
        Some(why) => format!("<p class=\"quiet\">At a speed that it never learned from: {}.</p>", escaped(why)),
        None => format!(
            "<h3>At a speed that its like never learned from</h3><div class=\"wide\"><table><thead><tr><th></th><th scope=\"col\">faults found</th><th \
             scope=\"col\">healthy above</th><th scope=\"col\">the simple rule finds</th><th scope=\"col\">healthy above</th></tr></thead><tbody>{}</tbody></table></div>",
            card.kept_speeds.iter().map(row).collect::<String>()
        ),
    }
}

/// The report of a life model and of the losses while it was trained; `why` as its card says it, if it has one.
pub fn life_report(name: &str, model: &LifeModel, losses: &[(usize, f32)], cap: f32, why: Option<&str>) -> String {
    let errors = model.held_out.iter().map(|(head, error)| format!("{} {error:.1}", head.word()));
    let mut body = format!(
        "<section><h2>How long is left: the {} head leads</h2>{}<p>Root mean squared error on machines that were kept away, all rows: {}.</p>\
         <p class=\"quiet\">{} parameters, kernel and trainer within {:.1e}, <code>{}</code></p><div class=\"charts\">",
        model.head.word(),
        why.map(|why| format!("<p>{}</p>", escaped(why))).unwrap_or_default(),
        escaped(&errors.collect::<Vec<_>>().join(", ")),
        model.parameters,
        model.parity,
        model.digest,
    );
    body += &curve(
        "Loss",
        &[("a", "training", losses.iter().map(|(step, loss)| (*step as f64, f64::from(*loss))).collect())],
    );
    for machine in spread(&model.words) {
        body += &fan(&model.words, machine);
    }
    body += &life_calibration(&model.words, cap);
    body += "</div>";
    let near = 0.2 * cap;
    let of = |name: &str, failing: bool| {
        let kind = model.words.iter().filter(|word| (word.truth < near) == failing);
        let (above, below): (Vec<&LifeWord>, Vec<&LifeWord>) = kind.partition(|word| word.said < near);
        Confusion { name: name.to_owned(), above: above.len(), below: below.len() }
    };
    let rows = [of("near its end", true), of("further away", false)];
    body += &table(&format!("Said to have less than {near:.0} left"), ["said near", "said further"], &rows);
    body += "</section>";
    page(name, body)
}

/// Losses over the steps.
fn loss(losses: &[crate::Progress]) -> String {
    let line =
        |of: fn(&crate::Progress) -> f32| losses.iter().map(|step| (step.step as f64, f64::from(of(step)))).collect();
    curve("Loss", &[("a", "training", line(|step| step.loss)), ("b", "held out", line(|step| step.held_out_loss))])
}

/// A line's colour, name and points.
type Line<'n> = (&'static str, &'n str, Vec<(f64, f64)>);

fn curve(label: &'static str, lines: &[Line<'_>]) -> String {
    if lines.iter().all(|(_, _, points)| points.is_empty()) {
        return String::new();
    }
    let points = || lines.iter().flat_map(|(_, _, points)| points.iter());
    let mut chart = Chart::new(
        ("step", Scale::Linear, &mut points().map(|(x, _)| *x)),
        (label, Scale::Logarithmic, &mut points().map(|(_, y)| *y)),
    );
    for (class, name, points) in lines {
        chart.line(class, name, points);
    }
    chart.finish("Loss over the steps of training")
}

/// Scores of the tested windows over their time, in thresholds.
fn scores(evidence: &Evidence) -> String {
    let times = || evidence.scores.iter().map(|window| window.time_us);
    let (begin, end) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let (unit, unit_us) = if end - begin < 4 * HOUR_US { ("minutes", 6e7) } else { ("hours", HOUR_US as f64) };
    let point = |window: &crate::ScoredWindow| {
        let since = (window.time_us - begin) as f64 / unit_us;
        (since, f64::from(window.anomaly / evidence.threshold).max(LEAST_SCORE))
    };
    let of = |faulty: bool| {
        let kind = evidence.scores.iter().filter(|window| window.faulty == faulty);
        let mut points: Vec<(f64, f64)> = kind.map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let (healthy, faulty) = (of(false), of(true));
    let all = || healthy.iter().chain(&faulty);
    let mut chart = Chart::new(
        (unit, Scale::Linear, &mut all().map(|(x, _)| *x)),
        ("score / threshold", Scale::Logarithmic, &mut all().map(|(_, y)| *y).chain([0.1, 2.0])),
    );
    chart.dots("a", "healthy, tested", &healthy);
    if !faulty.is_empty() {
        chart.dots("b", "labelled faulty", &faulty);
    }
    chart.level("limit", "threshold", 1.0);
    chart.finish("Scores of the tested windows over time, in thresholds")
}

/// How many tested windows lie above levels that a known share of the calibration windows exceeds.
fn calibration(evidence: &Evidence) -> String {
    let points: Vec<(f64, f64)> =
        evidence.calibrated().into_iter().map(|(expected, observed)| (expected, observed.max(LEAST_SHARE))).collect();
    if points.is_empty() {
        return String::new();
    }
    let mut chart = Chart::new(
        ("expected share", Scale::Logarithmic, &mut points.iter().map(|(x, _)| *x)),
        ("observed share", Scale::Logarithmic, &mut points.iter().flat_map(|(x, y)| [*x, *y])),
    );
    let ideal: Vec<(f64, f64)> = points.iter().map(|(x, _)| (*x, *x)).collect();
    chart.line("limit", "as calibrated", &ideal);
    chart.line("a", "tested windows", &points);
    chart.dots("a", "", &points);
    chart.finish("Share of healthy tested windows above a level against the share that the calibration expects")
}

fn confusion(evidence: &Evidence) -> String {
    let tested = [evidence.tested(false), evidence.tested(true)];
    let rows: Vec<Confusion> = tested
        .into_iter()
        .filter(|row| row.above + row.below > 0)
        .chain(
            evidence.confusion.iter().map(|row| Confusion { name: format!("simulated: {}", row.name), ..row.clone() }),
        )
        .collect();
    table("What became of the tested windows", ["above the threshold", "below"], &rows)
}

fn table(title: &str, heads: [&str; 2], rows: &[Confusion]) -> String {
    let row = |row: &Confusion| {
        let share = 100.0 * row.above as f64 / (row.above + row.below).max(1) as f64;
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td><span class=\"bar\"><span style=\"width:{share:.1}%\"></span></span>{share:.1} %</td></tr>",
            escaped(&row.name),
            row.above,
            row.below
        )
    };
    format!(
        "<h3>{}</h3><div class=\"wide\"><table><thead><tr><th></th><th scope=\"col\">{}</th><th scope=\"col\">{}</th><th scope=\"col\">share</th></tr></thead><tbody>{}</tbody></table></div>",
        escaped(title),
        heads[0],
        heads[1],
        rows.iter().map(row).collect::<String>()
    )
}

/// What a kept machine had left, what was said and how wide the interval was.
fn fan(words: &[LifeWord], machine: usize) -> String {
    let own: Vec<&LifeWord> = words.iter().filter(|word| word.machine == machine).collect();
    let line = |of: fn(&LifeWord) -> f32| -> Vec<(f64, f64)> {
        own.iter().map(|word| (word.row as f64, f64::from(of(word)))).collect()
    };
    let (low, high) = (line(|word| word.low), line(|word| word.high));
    let (said, truth) = (line(|word| word.said), line(|word| word.truth));
    let mut chart = Chart::new(
        ("row", Scale::Linear, &mut said.iter().map(|(x, _)| *x)),
        ("left", Scale::Linear, &mut high.iter().chain(&truth).map(|(_, y)| *y).chain([0.0])),
    );
    chart.band("a", "90 % interval", &low, &high);
    chart.line("a", "said", &said);
    chart.line("limit", "true", &truth);
    chart.finish(&format!("Life left of machine {} over its rows: said, interval and truth", machine + 1))
}

/// The share of truths within the interval, by what was said.
fn life_calibration(words: &[LifeWord], cap: f32) -> String {
    let within = |word: &&LifeWord| (word.low..=word.high).contains(&word.truth);
    let band = |number: usize| {
        let bounds = (cap / 8.0 * number as f32, cap / 8.0 * (number + 1) as f32);
        let own: Vec<&LifeWord> = words.iter().filter(|word| (bounds.0..bounds.1).contains(&word.said)).collect();
        let share = own.iter().copied().filter(within).count() as f64 / own.len().max(1) as f64;
        (!own.is_empty()).then_some((f64::from((bounds.0 + bounds.1) / 2.0), share))
    };
    let points: Vec<(f64, f64)> = (0..8).filter_map(band).collect();
    let mut chart = Chart::new(
        ("said to be left", Scale::Linear, &mut points.iter().map(|(x, _)| *x)),
        ("share within the interval", Scale::Linear, &mut [0.0, 1.0].into_iter()),
    );
    chart.line("a", "machines kept away", &points);
    chart.dots("a", "", &points);
    chart.level("limit", "asked for", 0.9);
    chart.finish("Share of truths within the interval, by what was said to be left")
}

/// Four machines, from the shortest life to the longest.
fn spread(words: &[LifeWord]) -> Vec<usize> {
    let mut lives: Vec<(usize, usize)> = Vec::new();
    for word in words {
        match lives.iter_mut().find(|(_, machine)| *machine == word.machine) {
            Some((rows, _)) => *rows += 1,
            None => lives.push((1, word.machine)),
        }
    }
    lives.sort_unstable();
    let last = lives.len().saturating_sub(1);
    let mut chosen: Vec<usize> =
        (0..4).filter_map(|place| lives.get(place * last / 3)).map(|(_, machine)| *machine).collect();
    chosen.dedup();
    chosen
}

fn search(found: &Found) -> String {
    let row = |standing: &crate::Standing| {
        let merit = standing.merit.map_or_else(|| "failed".to_owned(), |merit| format!("{merit:.3}"));
        format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{merit}</td></tr>",
            standing.rung + 1,
            standing.candidate,
            standing.steps
        )
    };
    format!(
        "<section><h2>Search</h2><p>{}</p><div class=\"wide\"><table><thead><tr><th scope=\"col\">rung</th><th scope=\"col\">candidate</th>\
         <th scope=\"col\">steps</th><th scope=\"col\">merit</th></tr></thead><tbody>{}</tbody></table></div><p class=\"quiet\"><code>{}</code></p></section>",
        escaped(&found.why),
        found.standings.iter().map(row).collect::<String>(),
        found.digest
    )
}

fn page(title: &str, body: String) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}: training report</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>\n"
    )
}

const HOUR_US: i64 = 3_600_000_000;
const LEAST_SCORE: f64 = 1e-3;
const LEAST_SHARE: f64 = 1e-3;
const STYLE: &str = include_str!("style.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_models_or_with_empty_evidence_is_still_a_page() {
        assert!(report(&[], None).starts_with("<!doctype html>"));
        assert!(!scores(&Evidence { threshold: 1.0, ..Evidence::default() }).contains("NaN"));
        assert_eq!(calibration(&Evidence::default()), "");
    }

    #[test]
    fn the_fan_shows_short_and_long_lives_of_different_machines() {
        let word = |machine, row| LifeWord { machine, row, said: 5.0, low: 1.0, high: 9.0, truth: 4.0 };
        let words: Vec<LifeWord> =
            (0..9).flat_map(|machine| (0..=machine * 3).map(move |row| word(machine, row))).collect();
        assert_eq!(spread(&words), [0, 2, 5, 8]);
        assert_eq!(spread(&words[..1]), [0]);
        assert!(fan(&words, 5).contains("polygon"));
        assert!(life_calibration(&words, 8.0).contains("1.0"));
    }
}
