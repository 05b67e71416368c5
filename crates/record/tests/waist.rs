//! INV-PERMIT in types: what must not compile, and next to it what must.

#[test]
fn inv_permit_an_effect_needs_its_own_recorded_permit_once() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_fail/allowed.rs");
    cases.compile_fail("tests/compile_fail/intent_*.rs");
    cases.compile_fail("tests/compile_fail/permit_*.rs");
}
