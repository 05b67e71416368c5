use bartizan_model::action::ModelCall;
use bartizan_record::IntentRecorded;

fn twice(intent: IntentRecorded<ModelCall>) {
    drop(intent.begin());
    drop(intent.begin());
}

fn main() {
    let _ = twice;
}
