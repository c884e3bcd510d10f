//! Validation: everything that can be said of a template without building anything, in one call.

use super::{Inputs, Template};
use crate::diagnostic::Diagnostics;
use crate::engine::Engine;
use crate::registry::Registry;

impl Template {
    /// Checks the template with its inputs: evaluates it, and prepares the components of all its builds. Gives all
    /// findings, warnings too; where [none is an error](Diagnostics::has_errors) the template can be built. It is what
    /// `packer validate` does. Data sources are read only where the inputs
    /// [say so](Inputs::evaluate_data_sources); else what comes of them counts as unknown.
    ///
    /// ```
    /// use packer_core::Registry;
    /// use packer_core::template::{Inputs, Template};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let text = "variable \"region\" {}\nsource \"null\" \"a\" {}\nbuild { sources = [\"null.a\"] }\n";
    /// let template = Template::from_texts([("a.pkr.hcl", text)])?;
    /// let found = template.validate(&Registry::new(), Inputs::new()).await;
    /// assert!(found.has_errors()); // the variable is not set, and nobody registered the builder
    /// # Ok::<(), packer_core::Diagnostics>(())
    /// # }).unwrap();
    /// ```
    pub async fn validate(&self, registry: &Registry, inputs: Inputs) -> Diagnostics {
        let host = inputs.host.clone();
        let pipeline = match self.evaluate(registry, inputs).await {
            Ok(pipeline) => pipeline,
            Err(found) => return found,
        };
        let mut found = pipeline.notes.clone();
        found.append(Engine::new().host(host).prepare(&pipeline).await);
        found.scrub(&pipeline.secrets);
        found
    }
}
