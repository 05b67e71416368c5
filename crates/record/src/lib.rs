//! Write-ahead log, group commit and sealing; the only maker of an IntentRecorded.
