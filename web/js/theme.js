// Light, dark, or as the system has it.

const ORDER = ['auto', 'light', 'dark'];
const NAMES = { auto: 'as the system', light: 'light', dark: 'dark' };
const ICONS = { auto: '#i-auto', light: '#i-sun', dark: '#i-moon' };
const KEY = 'sightline.theme';

/** Storage may be forbidden; then a choice lasts as long as the page. */
export const remembered = {
  get(key) {
    try {
      return localStorage.getItem(key) ?? undefined;
    } catch {
      return undefined;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(key, value);
    } catch {
      // Nothing to do: the page works without memory.
    }
  },
};

/** Makes `button` walk through the themes; calls `changed` after each step. */
export function themeToggle(button, changed) {
  const apply = (theme) => {
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const name = `Colours: ${NAMES[theme]}`;
    button.setAttribute('aria-label', name);
    button.title = name;
    button.querySelector('use').setAttribute('href', ICONS[theme]);
    changed();
  };
  let theme = remembered.get(KEY);
  if (!ORDER.includes(theme)) theme = 'auto';
  apply(theme);
  button.addEventListener('click', () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    remembered.set(KEY, theme);
    apply(theme);
  });
}
