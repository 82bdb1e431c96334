//! Not yet here.
