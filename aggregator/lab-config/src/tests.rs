//! What a file may say, and what is refused with its key.

use super::*;

const TABLES: [&str; 2] = ["features", "scores"];

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, &TABLES)
}

#[test]
fn the_documented_file_is_the_default_and_an_unknown_key_is_refused() {
    assert_eq!(parse(DEFAULT_TOML).expect("the documented file can be read"), Config::default());
    assert!(parse("[commit]\nmax_byte = 1").is_err());
    assert!(parse("[views]\nwarm = \"SELECT seq FROM features\"").is_ok());
    assert!(parse("[views]\nfeatures = \"SELECT seq FROM features\"").is_err(), "it would hide the table");
    let keep = |text: &str| parse(&format!("[upkeep]\nkeep_days = {{ {text} }}"));
    assert!(keep("feature = 730, quarantine = 90").is_ok());
    assert!(keep("gap = 730").is_err() && keep("features = 730").is_err() && keep("clip = 0").is_err());
    assert!(parse("[views]\n\"a b\" = \"SELECT seq FROM features\"").is_err());
    let said = |text: &str| parse(text).expect_err(text).to_string();
    assert!(said("[training]\nat = \"2 am\"").contains("2 am"));
    assert!(said("[training]\nprocessor_share = 0").contains("processor_share"));
    assert!(said("[again]\ngrowth = 0.9").contains("growth"));
    assert!(said("[training]\nleast_lives = 3").contains("least_lives"));
}

#[test]
fn a_share_of_the_processor_is_whole_threads_and_one_at_least() {
    let threads = |processor_share, cores| Training { processor_share, ..Training::default() }.threads(cores);
    assert_eq!([threads(1.0, 16), threads(0.5, 16), threads(0.5, 3), threads(0.01, 16)], [16, 8, 1, 1]);
}

#[test]
fn no_text_makes_reading_the_configuration_panic() {
    let pieces: Vec<&str> = DEFAULT_TOML.split_inclusive(['\n', '=', ',', ' ', '"']).collect();
    let odd = ["-1", "0", "1e308", "nan", "\"\"", "[]", "18446744073709551616", "\"23:60\"", "{ gap = 1 }"];
    kilter_tests::misspell(&pieces, &odd, |text| parse(text).is_ok());
}
