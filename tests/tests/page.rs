//! The page in a real browser: live without a reload, from the fleet to an alarm's evidence, and what a lost server looks like.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use kilter_tests::model::{artifact, publish};
use kilter_tests::{Bins, Browser, House, Options, Ports, Tuning, story};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_operator_sees_a_fault_come_opens_its_machine_and_acknowledges_without_a_reload() {
    let Some(bins) = Bins::built(&["kilter-agent", "kilter-aggregator", "kilter-sim"]) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let tuning =
        Tuning { commissioning_windows: 12, window: 4096, temperature_window: 10, period_secs: 1.0, report_secs: 1.0 };
    let options = Options {
        seed: 11,
        speed: 4.0,
        spec: None,
        tuning,
        probation_secs: 1,
        lab_arguments: Vec::new(),
        broker: String::new(),
    };
    let told = Ports::free()
        .and_then(|ports| House::new(bins, dir.path(), ports, options))
        .and_then(|mut house| walk(&mut house).and_then(|()| house.stop()));
    if let Err(error) = told {
        panic!("{error:#}\nlogs and data are kept in {}", dir.keep().display());
    }
}

fn walk(house: &mut House) -> anyhow::Result<()> {
    house.set("lab", "enabled", false)?;
    house.start_aggregator()?;
    let host = house.ports.http.to_string();
    let mut browser = Browser::open(&house.dir.join("browser"), &format!("http://{host}/"))?;
    browser.look(1440, 900, false)?;
    browser.wait_for(
        "how to enrol the first agent",
        "document.body.innerText.includes('kilter-agent run')",
        PATIENCE,
    )?;
    // From here on the page is never loaded again: this stays.
    browser.value("window.unbroken = true")?;
    house.start_plant()?;
    for agent in house.install_agents()? {
        house.start_agent(&agent)?;
    }
    let rows = "document.querySelectorAll('.body .row').length";
    browser.wait_for("a row for every machine", &format!("{rows} === {}", house.machines.len()), PATIENCE)?;
    let pace = story::Pace { patience: PATIENCE, growth_s: 4.0 };
    story::baselines(house, &pace)?;
    shot(&mut browser, "fleet")?;
    house.control("/fault", &json!({ "asset": "pump-1", "kind": "outer_race", "severity": 0.9, "growth_s": 4 }))?;
    let first = "[...document.querySelectorAll('.body .row')].find(row => row.innerText.includes('pump-1') \
                 && /outer race/i.test(row.innerText))?.innerText";
    let row = browser.wait_for("the fault in the fleet", first, PATIENCE)?;
    println!("the row says: {}", row.as_str().unwrap_or_default().replace('\n', " · "));
    let top = "[...document.querySelectorAll('.body .row')].sort((a, b) => a.getBoundingClientRect().top - \
               b.getBoundingClientRect().top)[0].innerText.includes('pump-1')";
    browser.wait_for("the faulty machine on top", top, PATIENCE)?;
    browser.click(".body .row a[href*='pump-1']")?;
    browser.wait_for("the machine's page", "location.pathname.endsWith('/pump-1')", PATIENCE)?;
    let alarm = "[...document.querySelectorAll('.alarm')].some(card => /outer race/i.test(card.innerText) && \
                 card.querySelector('.evidence'))";
    browser.wait_for("the alarm with its evidence", alarm, PATIENCE)?;
    browser.wait_for(
        "charts with something on them",
        "document.querySelectorAll('figure.chart canvas').length >= 2",
        PATIENCE,
    )?;
    shot(&mut browser, "machine")?;
    browser.click(".alarm .primary")?;
    browser.wait_for("the acknowledgement", "/Acknowledged by/.test(document.body.innerText)", PATIENCE)?;
    ensure!(
        house.alarms()?.iter().any(|alarm| !alarm["acknowledged"].is_null()),
        "the server knows of no acknowledgement"
    );
    browser.click("nav [data-view=models]")?;
    browser.wait_for("the models", "/No model yet/.test(document.body.innerText)", PATIENCE)?;
    // A model that does not beat the simple rule watches; the page says who decides.
    publish(&house.data_dir(), &artifact(1e6), "shadow")?;
    let said = "/no model leads, shadow/i.test(document.body.innerText) && \
                /own baseline and the fixed limits decide/i.test(document.body.innerText)";
    browser.wait_for("a model that only watches", said, PATIENCE)?;
    browser.value("history.back()")?;
    browser.wait_for("the way back", "location.pathname.endsWith('/pump-1')", PATIENCE)?;
    browser.look(390, 844, true)?;
    browser.wait_for("a page as wide as the phone", "document.documentElement.scrollWidth <= 390", PATIENCE)?;
    shot(&mut browser, "phone")?;
    let complaints = browser.complaints(&host);
    ensure!(complaints.is_empty(), "the page complains: {complaints:?}");
    // The server goes and comes: the page says so and heals itself.
    house.kill_aggregator()?;
    browser.wait_for("the lost connection", "/Connection lost/.test(document.body.innerText)", PATIENCE)?;
    house.start_aggregator()?;
    browser.wait_for("the connection again", "document.getElementById('link').dataset.link === 'live'", PATIENCE)?;
    browser.wait_for("the alarm after the restart", alarm, PATIENCE)?;
    ensure!(browser.value("window.unbroken")? == true, "the page was loaded again");
    Ok(())
}

/// For people: `KILTER_PICTURES=DIR` keeps what the browser showed.
fn shot(browser: &mut Browser, name: &str) -> anyhow::Result<()> {
    match std::env::var_os("KILTER_PICTURES") {
        Some(dir) => browser.picture(&PathBuf::from(dir).join(format!("{name}.png"))),
        None => Ok(()),
    }
}
