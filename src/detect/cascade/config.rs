//! `cascade = [{ sampling = "motion" }, { model = "yolox-nano", classes = ["person"] }, { model = "face" }]`.

use serde::{Deserialize, Serialize};

use super::super::sampling::Sampling;
use super::{DetectError, Model};

/// One stage, as it is written: a strategy of sampling, or a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CascadeStage {
    /// Which frames go on: `motion`, or any other strategy with its parameters. The first stage alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// The model that looks: a name or a path, as in `[detect]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The classes of the first model that go on; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

/// A cascade that was checked: `sampling → first (classes) → second on the crops`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cascade {
    /// Which frames are looked at; `None`: as the stream says.
    pub sampling: Option<Sampling>,
    /// The first model.
    pub first: String,
    /// Those of its classes that go on; empty: all.
    pub classes: Vec<String>,
    /// The model that looks at the crops of its boxes.
    pub second: Option<String>,
}

impl Cascade {
    /// The cascade of these stages; `None` where there are none.
    ///
    /// # Errors
    /// Names the stage and what is wrong with it.
    pub fn new(stages: &[CascadeStage]) -> Result<Option<Self>, String> {
        let mut models = Vec::new();
        let mut sampling = None;
        for (n, stage) in stages.iter().enumerate() {
            let wrong = |what: &str| Err(format!("cascade: stage {}: {what}", n + 1));
            match (&stage.sampling, &stage.model) {
                (Some(_), Some(_)) | (None, None) => return wrong("either sampling or model is needed"),
                (Some(_), None) if n > 0 => return wrong("sampling is the first stage"),
                (Some(_), None) if !stage.classes.is_empty() => return wrong("classes are those of a model"),
                (Some(strategy), None) => {
                    strategy.validate().map_err(|error| format!("cascade: stage {}: {error}", n + 1))?;
                    sampling = Some(*strategy);
                }
                (None, Some(model)) if model.is_empty() => return wrong("model = \"\": a name or a path is needed"),
                (None, Some(model)) => models.push((model, &stage.classes)),
            }
        }
        match models.as_slice() {
            [] if stages.is_empty() => Ok(None),
            [] => Err("cascade: a model is needed".to_owned()),
            [(first, classes)] => {
                Ok(Some(Self { sampling, first: (*first).clone(), classes: (*classes).clone(), second: None }))
            }
            [(first, classes), (second, none)] if none.is_empty() => {
                let second = Some((*second).clone());
                Ok(Some(Self { sampling, first: (*first).clone(), classes: (*classes).clone(), second }))
            }
            [_, _] => Err("cascade: classes choose what goes on, and after the last model nothing does".to_owned()),
            _ => Err(format!("cascade: two models are possible, here are {}", models.len())),
        }
    }

    /// A name that no other cascade of models has: what loads it goes by it.
    #[must_use]
    pub fn key(&self) -> String {
        let Self { first, classes, second, .. } = self;
        format!("{first} [{}] → {}", classes.join(", "), second.as_deref().unwrap_or_default())
    }

    /// Its models' names, in order.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.first.as_str()).chain(self.second.as_deref())
    }

    /// Its model, of two that `load` gives.
    pub(in crate::detect) fn load(
        &self,
        load: impl Fn(&str) -> Result<Model, DetectError>,
    ) -> Result<Model, DetectError> {
        let first = load(&self.first)?;
        let again = |second: &str| if second == self.first { Ok(first.clone()) } else { load(second) };
        let second = self.second.as_deref().map(again).transpose()?;
        Model::cascade(first, &self.classes, second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Holder {
        cascade: Vec<CascadeStage>,
    }

    fn read(text: &str) -> Result<Option<Cascade>, String> {
        Cascade::new(&toml::from_str::<Holder>(text).map_err(|error| error.to_string())?.cascade)
    }

    #[test]
    fn stages_are_read_in_their_order() {
        let whole =
            read("cascade = [{ sampling = \"motion\" }, { model = \"a\", classes = [\"person\"] }, { model = \"b\" }]");
        let expected = Cascade {
            sampling: Some(Sampling::MOTION),
            first: "a".to_owned(),
            classes: vec!["person".to_owned()],
            second: Some("b".to_owned()),
        };
        assert_eq!(whole, Ok(Some(expected)));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("cascade = [{ model = \"a\" }]").unwrap().unwrap().models().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_stage() {
        for (stages, hint) in [
            ("{}", "stage 1: either"),
            ("{ sampling = \"motion\", model = \"a\" }", "stage 1: either"),
            ("{ sampling = \"motion\" }", "a model is needed"),
            ("{ model = \"a\" }, { sampling = \"motion\" }", "stage 2: sampling is the first"),
            ("{ sampling = \"motion\", classes = [\"x\"] }, { model = \"a\" }", "stage 1: classes"),
            ("{ model = \"\" }", "stage 1: model"),
            ("{ model = \"a\" }, { model = \"b\", classes = [\"x\"] }", "after the last"),
            ("{ model = \"a\" }, { model = \"b\" }, { model = \"c\" }", "here are 3"),
            ("{ sampling = { mode = \"every_n\", n = 0 } }, { model = \"a\" }", "stage 1: sampling: n = 0"),
            ("{ modell = \"a\" }", "modell"),
        ] {
            let error = read(&format!("cascade = [{stages}]")).unwrap_err();
            assert!(error.contains(hint), "{stages}: {error}");
        }
    }
}
