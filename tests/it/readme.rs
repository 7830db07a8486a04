//! Every console block of the README does what it says, and every scenario in it can be read.

use snapreach::{
    conformance::Profile,
    scenario::{Scenario, Variables},
};

#[test]
fn console_blocks() {
    trycmd::TestCases::new().case("README.md");
}

#[test]
fn scenarios() {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let values = [("ACCOUNT", "acct"), ("PROXY", "http://10.0.0.5:3128")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let variables = Variables::of(values);
    let scenarios: Vec<_> = blocks
        .filter(|block| block.contains("[[probe]]"))
        .map(|block| Scenario::parse("README.md", block, &variables))
        .collect();
    assert!(scenarios.len() >= 2);
    for scenario in scenarios {
        scenario.unwrap();
    }
}

#[test]
fn profiles() {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let profiles: Vec<_> = blocks.filter(|block| block.contains("[levels]")).collect();
    assert_eq!(profiles.len(), 1);
    let profile = Profile::parse("README", profiles[0]).unwrap();
    assert_eq!((profile.name.as_str(), profile.tunnels), ("estate", 500));
}
