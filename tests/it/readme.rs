//! Every console block of the README does what it says.

#[test]
fn console_blocks() {
    trycmd::TestCases::new().case("README.md");
}
