use bartizan_model::action::ModelCall;
use bartizan_record::IntentRecorded;

fn twice(intent: IntentRecorded<ModelCall>) -> (IntentRecorded<ModelCall>, IntentRecorded<ModelCall>) {
    (intent.clone(), intent)
}

fn main() {
    let _ = twice;
}
