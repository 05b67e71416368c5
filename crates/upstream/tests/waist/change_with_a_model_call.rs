// The state cannot be changed on the strength of a recorded model call.
use bartizan_model::action::{ChangeState, ModelCall};
use bartizan_record::IntentRecorded;
use bartizan_store::{Change, Store};

async fn change(store: &dyn Store<IntentRecorded<ChangeState>>, intent: IntentRecorded<ModelCall>, changes: Vec<Change>) {
    let _ = store.apply(&intent, changes).await;
}

fn main() {}
