use bartizan_model::DecisionId;
use bartizan_model::action::ModelCall;
use bartizan_record::{IntentRecorded, Recorder};

async fn read(recorder: &Recorder, intent: &IntentRecorded<ModelCall>, id: DecisionId) {
    drop(recorder.find(intent, id).await);
}

fn main() {
    let _ = read;
}
