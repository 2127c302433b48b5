// The stage: the annotated video, and what is said over it while there is none.

import { describe } from './problems.js';

const STATUS = {
  idle: ['Ready', 'idle'],
  opening: ['Opening the source', 'busy'],
  connecting: ['Connecting', 'busy'],
  live: ['Live', 'live'],
  waiting: ['Reconnecting', 'busy'],
  failed: ['Stopped', 'bad'],
};

const WELCOME = {
  title: 'Your video, annotated live',
  text: 'Choose a source and press Start. The picture goes to this server, comes back with its boxes drawn, and is kept nowhere.',
};

/** What the stage shows: welcome, waiting, video, video with a banner, or a problem. */
export class Stage {
  #countdown;
  #said = '';

  /**
   * @param {Document} root
   * @param {{prefix?: string, welcome?: {title: string, text: string}}} options `prefix`: of the elements' ids
   */
  constructor(root, { prefix = '', welcome = WELCOME } = {}) {
    const get = (id) => root.getElementById(prefix + id);
    this.welcome = welcome;
    this.video = get('annotated');
    this.frozen = get('frozen');
    this.selfview = get('selfview');
    this.hud = get('hud');
    this.hudLatency = get('hud-latency');
    this.hudFps = get('hud-fps');
    this.veil = get('veil');
    this.veilIcon = get('veil-icon').querySelector('use');
    this.veilTitle = get('veil-title');
    this.veilText = get('veil-text');
    this.veilWait = get('veil-wait');
    this.veilAction = get('veil-action');
    this.banner = get('banner');
    this.bannerText = get('banner-text');
    this.bannerAction = get('banner-action');
    this.status = get('status');
    this.statusText = get('status-text');
    this.live = root.getElementById('live');
    this.hasPicture = false;
  }

  /**
   * Shows a state.
   * @param {string} state a key of STATUS
   * @param {{problem?: Problem, retryAt?: number}} more
   */
  show(state, { problem, retryAt } = {}) {
    clearInterval(this.#countdown);
    const [text, tone] = STATUS[state];
    this.statusText.textContent = text;
    this.status.dataset.tone = tone;
    if (state === 'idle' || state === 'failed') this.#clearPicture();
    // An old picture is better than none while the connection is on its way back, and the banner says that it is old.
    const overVideo = this.hasPicture && !this.frozen.hidden;
    this.banner.hidden = !overVideo;
    this.bannerAction.hidden = state !== 'waiting';
    this.veil.hidden = this.hasPicture && state !== 'opening';
    this.hud.hidden = state !== 'live' || !this.hasPicture || overVideo;
    const words = problem ? describe(problem) : undefined;
    this.#fillVeil(state, words);
    if (state === 'waiting') this.#count(words, retryAt);
    else if (overVideo) this.bannerText.textContent = state === 'live' ? 'Waiting for the first frame' : 'Connecting again';
    this.#announce(words && state !== 'live' ? `${words.title}. ${words.text}` : text);
  }

  /** A frame of a live session stands. */
  pictureShown() {
    if (this.hasPicture && this.frozen.hidden) return;
    this.hasPicture = true;
    this.frozen.hidden = true;
    this.show('live');
  }

  /** Keeps the last picture, greyed, for as long as the connection is away. */
  freeze() {
    const { video, frozen } = this;
    if (!this.hasPicture || !frozen.hidden || video.videoWidth === 0) return;
    frozen.width = video.videoWidth;
    frozen.height = video.videoHeight;
    frozen.getContext('2d').drawImage(video, 0, 0);
    frozen.hidden = false;
  }

  #clearPicture() {
    this.hasPicture = false;
    this.frozen.hidden = true;
    this.video.srcObject = null;
  }

  #fillVeil(state, words) {
    const busy = state === 'opening' || state === 'connecting' || state === 'live';
    const bad = words !== undefined && !busy;
    this.veil.dataset.kind = bad ? 'problem' : busy ? 'busy' : 'welcome';
    this.veilIcon.setAttribute('href', bad ? '#i-alert' : '#i-camera');
    this.veilWait.hidden = true;
    this.veilAction.hidden = busy;
    this.veilAction.textContent = state === 'waiting' ? 'Try now' : bad ? 'Try again' : 'Start';
    if (busy) {
      this.veilTitle.textContent = state === 'opening' ? 'Opening the source' : state === 'live' ? 'Waiting for the first frame' : 'Connecting';
      this.veilText.textContent = state === 'opening' ? 'Your browser may ask for permission.' : '';
      return;
    }
    this.veilTitle.textContent = (words ?? this.welcome).title;
    this.veilText.textContent = (words ?? this.welcome).text;
  }

  // The seconds are for the eye: a screen reader that said each of them would say nothing else.
  #count(words, retryAt) {
    const tell = () => {
      const seconds = Math.max(1, Math.ceil((retryAt - performance.now()) / 1000));
      this.bannerText.textContent = `${words.title}. Trying again in ${seconds} s`;
      this.veilWait.textContent = `Trying again in ${seconds} s`;
      this.veilWait.hidden = false;
    };
    tell();
    this.#countdown = setInterval(tell, 250);
  }

  #announce(text) {
    if (text === this.#said) return;
    this.#said = text;
    this.live.textContent = text;
  }
}
