use bartizan_model::action::{ChangeState, ModelCall};
use bartizan_record::IntentRecorded;
use bartizan_store::Store;

async fn change(store: &dyn Store<IntentRecorded<ChangeState>>, intent: &IntentRecorded<ModelCall>) {
    drop(store.apply(intent, Vec::new()).await);
}

fn main() {
    let _ = change;
}
