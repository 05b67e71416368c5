use std::marker::PhantomData;

use bartizan_base::Timestamp;
use bartizan_model::action::ModelCall;
use bartizan_model::{Obligations, Target, Tenant};
use bartizan_record::{IntentRecorded, Running};

fn forge(running: Running) -> IntentRecorded<ModelCall> {
    IntentRecorded {
        tenant: Tenant::default_tenant(),
        target: Target::House,
        obligations: Obligations::none(),
        expires: Timestamp::MAX,
        running,
        operation: PhantomData,
    }
}

fn main() {
    let _ = forge;
}
