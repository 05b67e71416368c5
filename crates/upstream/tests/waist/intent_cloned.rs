// An intent cannot be cloned.
use bartizan_model::action::ModelCall;
use bartizan_record::IntentRecorded;

fn two(intent: IntentRecorded<ModelCall>) -> (IntentRecorded<ModelCall>, IntentRecorded<ModelCall>) {
    (intent.clone(), intent)
}

fn main() {}
