// Nothing leaves the house on a permit alone.
use bartizan_decide::Permit;
use bartizan_model::action::ModelCall;
use bartizan_model::directory::UpstreamSpec;
use bartizan_upstream::{Outbound, Upstreams};

async fn send(upstreams: &Upstreams, permit: Permit<ModelCall>, spec: &UpstreamSpec, outbound: Outbound) {
    let _ = upstreams.send(permit, spec, outbound).await;
}

fn main() {}
