//! What a machine's screen showed while it came up: pictures for the timeline page of a run that fails, or that is debugged.

use std::convert::Infallible;
use std::time::Duration;

use packer_core::kit::boot_command::KeyDriver;
use packer_core::kit::screen::Screen as Picture;
use packer_core::kit::vnc::Vnc;
use packer_core::{Context, EventKind, GoDuration};
use tokio::time::Instant;

use super::Qemu;
use super::boot::Screen;

/// How long after the start the first picture is taken, and so often the next ones.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a picture may take; the next one is taken then.
const LIMIT: Duration = Duration::from_secs(5);
/// How many pictures are kept, and how many bytes of them. Of more each second one goes, and the next ones come half as often.
const MOST: usize = 24;
const MOST_BYTES: usize = 4 << 20;

/// Pictures of a screen, the oldest first.
#[derive(Debug)]
pub(super) struct Film {
    pictures: Vec<EventKind>,
    pause: Duration,
}

impl Default for Film {
    fn default() -> Self {
        Self { pictures: Vec::new(), pause: PAUSE }
    }
}

impl Film {
    /// Takes pictures, those that differ from the ones before, until it is dropped. A build that is debugged shows them at once.
    pub(super) async fn record(&mut self, vm: &Qemu, cx: &Context, screen: &Screen) -> Infallible {
        // Nothing may look at the screen.
        if vm.disable_vnc {
            return std::future::pending().await;
        }
        let began = Instant::now();
        let mut last: Option<Picture> = None;
        loop {
            tokio::time::sleep(self.pause).await;
            let look =
                async { Vnc::connect(cx, screen.address, screen.password.as_ref()).await?.screen().await };
            // What cannot be seen is not worth an error: the machine may just switch to another screen.
            let Ok(Ok(Some(picture))) = tokio::time::timeout(LIMIT, look).await else { continue };
            if last.as_ref().is_some_and(|last| last.same_as(&picture)) {
                continue;
            }
            let after = Duration::from_secs(began.elapsed().as_secs());
            let shown = picture.shown(format!("{} after the start", GoDuration::from(after)));
            last = Some(picture);
            match cx.build().debug {
                true => cx.emit(shown),
                false => self.keep(shown),
            }
        }
    }

    /// Shows what is kept.
    pub(super) fn show(self, cx: &Context) {
        self.pictures.into_iter().for_each(|picture| cx.emit(picture));
    }

    fn keep(&mut self, picture: EventKind) {
        self.pictures.push(picture);
        let bytes = |picture: &EventKind| match picture {
            EventKind::Screen { png, .. } => png.len(),
            _ => 0,
        };
        while self.pictures.len() > MOST
            || self.pictures.len() > 1 && self.pictures.iter().map(bytes).sum::<usize>() > MOST_BYTES
        {
            let mut stays = self.pictures.len().is_multiple_of(2);
            self.pictures.retain(|_| {
                stays = !stays;
                stays
            });
            self.pause *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(number: usize, bytes: usize) -> EventKind {
        EventKind::Screen { title: number.to_string(), png: "x".repeat(bytes), text: String::new() }
    }

    fn titles(film: &Film) -> Vec<usize> {
        let title = |picture: &EventKind| match picture {
            EventKind::Screen { title, .. } => title.parse().ok(),
            _ => None,
        };
        film.pictures.iter().filter_map(title).collect()
    }

    #[test]
    fn a_long_wait_has_pictures_of_all_of_it() {
        let mut film = Film::default();
        for number in 0..100 {
            film.keep(picture(number, 10));
            assert_eq!(titles(&film).last(), Some(&number), "the newest stays");
            assert!(titles(&film).len() <= MOST);
        }
        assert!(titles(&film).iter().any(|number| *number < 30), "{:?}", titles(&film));
        assert!(film.pause >= PAUSE * 4);
    }

    #[test]
    fn large_pictures_are_few() {
        let mut film = Film::default();
        for number in 0..10 {
            film.keep(picture(number, MOST_BYTES / 3));
        }
        assert_eq!(titles(&film).last(), Some(&9));
        assert!(titles(&film).len() <= 3);
        film.keep(picture(10, 2 * MOST_BYTES));
        assert_eq!(titles(&film), [10]);
    }
}
