//! What a file may say, and what is refused with its key.

use super::*;

/// The machine that `default.toml` shows in comments.
fn example() -> String {
    let lines = DEFAULT_TOML.lines().filter_map(|line| line.strip_prefix("#: "));
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    assert_eq!(Config::parse(DEFAULT_TOML).expect("default.toml is good"), Config::default());
}

#[test]
fn the_documented_machine_is_good_and_shows_the_defaults_of_its_optional_keys() {
    let shown = Config::parse(&example()).expect("the example is good").machine.remove(0);
    let mut short = shown.clone();
    short.forget_optional();
    assert_eq!(shown, short);
}

#[test]
fn a_class_can_be_capped_unless_it_never_gives_way() {
    let cap = |cap: &str| Config::parse(&format!("[journal]\ncap = [{cap}]"));
    let good = cap("{ class = \"clip\", max_bytes = 8388608, max_days = 7.0 }").expect("a good cap");
    let expected = Cap { class: Class::Clip, max_bytes: Some(8 << 20), max_age_us: Some(604_800_000_000) };
    assert_eq!(good.journal.caps(), [expected]);
    for bad in ["{ class = \"alarm\" }", "{ class = \"clip\", max_bytes = 10 }", "{ class = \"clip\", max_days = 0.0 }"]
    {
        assert!(cap(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_text_makes_reading_the_configuration_panic() {
    let whole = format!("{DEFAULT_TOML}\n{}", example());
    let pieces: Vec<&str> = whole.split_inclusive(['\n', '=', ',', ' ']).collect();
    let odd = ["-1", "0", "1e308", "nan", "\"\"", "[]", "18446744073709551616"];
    kilter_tests::misspell(&pieces, &odd, |text| Config::parse(text).is_ok());
}

#[test]
fn mistakes_are_named_where_they_are() {
    let good = example();
    assert!(good.contains("rate_hz = 25600.0"), "the example changed: {good}");
    let mistakes = [
        ("asset = ", "aset = ", "unknown field `aset`"),
        ("unit = \"g\"", "unit = \"gee\"", "unknown variant `gee`"),
        ("rate_hz = 25600.0", "", "rate_hz is needed"),
        ("kind = \"speed\"", "kind = \"speed\"\nrate_hz = 1.0", "rate_hz does not belong"),
        ("window = 8192", "window = 8191", "window and hop"),
        ("window = 8192", "window = 2560", "it would never trip"),
        ("feature = \"velocity_rms\"", "feature = \"r0.mean\"", "it would never trip"),
        ("channels = [\"de-x\"]", "channels = [\"de-q\"]", "channel de-q"),
        ("asset = \"pump-1\"", "asset = \"Pump 1\"", "a-z, 0-9"),
        ("range = [-50.0, 50.0]", "range = [50.0, -50.0]", "the lower one first"),
        ("range = [-50.0, 50.0]", "range = [nan, 50.0]", "the lower one first"),
        (
            "feature = \"velocity_rms\"\nabove = 11.0",
            "feature = \"temperature_level\"\nabove = 160.0",
            "the range of the channel ends before 160",
        ),
        ("range = [-40.0, 150.0]", "range = [-40.0, 90.0]", "temperature_danger_c would never be passed"),
        ("axis = \"radial_horizontal\"", "axis = \"x\"", "`radial_horizontal`, `radial_vertical`, `radial`, `axial`"),
        ("kind = \"speed\"", "kind = \"speed\"\naxis = \"axial\"", "axis does not belong"),
        ("mounting = \"adhesive\"", "mounting = \"glue\"", "`stud`, `adhesive`, `magnet`, `handheld`"),
        ("mounting = \"adhesive\"", "mounting = \"magnet\"", "what its mounting carries (2000 Hz)"),
        ("upper_hz = 8000.0", "upper_hz = 20000.0", "half of rate_hz (12800 Hz)"),
        ("upper_hz = 8000.0", "upper_hz = nan", "upper_hz"),
        (SOURCE, "source = { kind = \"mqtt\", address = \"plant.example:1883\", topic = \"a\" }", "give ca_file"),
        (SOURCE, "source = { kind = \"mqtt\", address = \"127.0.0.1:1883\", topic = \"a/#/b\" }", "no topic filter"),
        (
            SOURCE,
            "source = { kind = \"mqtt\", address = \"127.0.0.1:1883\", topic = \"a\", user = \"me\" }",
            "user and password_file together",
        ),
        (
            SOURCE,
            "source = { kind = \"mqtt\", address = \"127.0.0.1:1883\", topic = \"a\", format = \"xml\" }",
            "`xml`",
        ),
        (SOURCE, "source = { kind = \"http\" }", "missing field `token_file`"),
        ("healthy = 100.0", "", "missing field `healthy`"),
        ("trip = 0.0", "trip = nan", "a level is a number"),
        ("file = \"pump-1.level\"", "", "give a file that holds the level"),
        ("watch = 100.0\nalarm = 80.0\ndanger = 50.0\ntrip = 0.0", "", "it would never change"),
    ];
    for (from, to, said) in mistakes {
        assert!(good.contains(from), "{from} is not in the example");
        let error = Config::parse(&good.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(error.contains(said), "{to}: {error}");
    }
    let error = Config::parse(&format!("{good}\n{good}")).expect_err("twice").to_string();
    assert!(error.contains("configured twice"), "{error}");
    let posted = good.replacen(SOURCE, "source = { kind = \"http\", token_file = \"token\" }", 1);
    assert!(Config::parse(&posted).is_ok());
    let error = Config::parse(&format!("[http]\nlisten = \"\"\n{posted}")).expect_err("no page").to_string();
    assert!(error.contains("http.listen is empty"), "{error}");
}

const SOURCE: &str = "source = { kind = \"socket\", address = \"127.0.0.1:7700\" }";

#[test]
fn a_rate_beyond_what_the_mounting_carries_is_doubted_until_a_band_is_declared() {
    let doubts = |from: &str, to: &str| {
        let text = example();
        assert!(text.contains(from), "{from}");
        Config::parse(&text.replacen(from, to, 1)).expect("it can be run").machine[0].doubts()
    };
    assert_eq!(doubts("upper_hz = 8000.0", "upper_hz = 8000.0"), [""; 0]);
    let doubted = doubts("mounting = \"adhesive\"\nupper_hz = 8000.0", "mounting = \"magnet\"");
    assert_eq!(doubted.len(), 1);
    for said in ["channel de-x", "mounting magnet", "2000 Hz", "12800 Hz", "upper_hz"] {
        assert!(doubted[0].contains(said), "{said}: {doubted:?}");
    }
    assert_eq!(doubts("rate_hz = 25600.0", "rate_hz = 16000.0"), [""; 0]);
}

#[test]
fn a_limit_on_what_no_group_gives_is_doubted() {
    let text = example();
    let doubts = |text: &str| Config::parse(text).expect("it can be run").machine[0].doubts();
    assert!(text.contains("feature = \"envelope_kurtosis\""));
    let other = doubts(&text.replacen("feature = \"envelope_kurtosis\"", "feature = \"r0.mean\"", 1));
    assert!(matches!(&other[..], [doubt] if doubt.contains("r0.mean") && doubt.contains("never speaks")), "{other:?}");
    // A tenth of a second holds no velocity; the trip on it is another matter, which is refused.
    let (before, after) = text.split_once("[[machine.protection]]").expect("there is one");
    let (_, after) = after.split_once("windows = 3").expect("its last key");
    let short = doubts(&format!("{before}{after}").replacen("window = 8192", "window = 2560", 1));
    assert!(matches!(&short[..], [doubt] if doubt.contains("velocity_rms") && doubt.contains("0.1 s")), "{short:?}");
}
