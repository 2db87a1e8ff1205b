//! What borrowers may do with memory that was sent to them.
