// A caller cannot be written down, nor read from anything.
fn main() {
    let _ = bartizan_identify::Caller { tenant: bartizan_model::Tenant::default_tenant() };
}
