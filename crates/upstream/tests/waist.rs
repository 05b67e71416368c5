//! The waist: forgetting a step must not compile. Each case names what it tries.

#[test]
fn inv_permit_the_waist_cannot_be_forged_cloned_or_skipped() {
    trybuild::TestCases::new().compile_fail("tests/waist/*.rs");
}
