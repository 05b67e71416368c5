// A caller is never deserialised.
fn main() {
    let _: bartizan_identify::Caller = serde_json::from_str("{}").unwrap();
}
