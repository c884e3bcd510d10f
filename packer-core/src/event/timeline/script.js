'use strict';
// A click on a step shows the lines that were told while it ran; another click hides them again.
let pressed = null;
for (const step of document.querySelectorAll('button.step')) {
  step.addEventListener('click', () => {
    for (const log of document.querySelectorAll('.log')) log.hidden = true;
    if (pressed) pressed.setAttribute('aria-pressed', 'false');
    if (pressed === step) { pressed = null; return; }
    pressed = step;
    step.setAttribute('aria-pressed', 'true');
    const log = document.getElementById(step.dataset.log);
    const [from, to] = [Number(step.dataset.from), Number(step.dataset.to)];
    for (const line of log.querySelectorAll('li')) {
      const number = Number(line.dataset.line);
      line.hidden = number < from || number >= to;
    }
    log.querySelector('h2').textContent = step.title;
    log.hidden = false;
    log.scrollIntoView({ block: 'nearest' });
  });
}
