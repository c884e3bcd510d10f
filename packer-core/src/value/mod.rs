//! Values and types of the template language.
