//! Keys: public and private, their formats, their fingerprints, generation.
