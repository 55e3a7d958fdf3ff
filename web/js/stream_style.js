// The look of the player: text rather than a file, as it moves into the pop-out window with the player.

export const STYLE = `
:host { display: block; position: relative; width: 100%; height: 100%; min-height: 200px;
  aspect-ratio: 1 / 1.1; /* where the page gives no height, as in Vue nodes before frontend 1.4 */ }
* { box-sizing: border-box; }
.player, .away {
  --ink: #e4e6ea; --faint: #9a9fa9; --line: #2b2e35; --accent: #9a9fa9;
  position: absolute; inset: 0; display: flex; flex-direction: column; overflow: hidden; border-radius: 8px;
  background: #0d0e11; color: var(--ink); font: 11px/1.2 Inter, system-ui, sans-serif; container-type: inline-size;
  user-select: none;
}
.player[data-label=speaking] { --accent: #4fd1a1; }
.player[data-label=listening] { --accent: #6ba8ff; }
.away { align-items: center; justify-content: center; gap: 10px; color: var(--faint); }
.away[hidden] { display: none; }
.screen { position: relative; flex: 1; min-height: 0; cursor: pointer; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.empty { position: absolute; inset: 0; display: flex; flex-direction: column; align-items: center;
  justify-content: center; gap: 10px; color: #6d727c; text-align: center; padding: 12px; pointer-events: none; }
.empty svg { width: 44px; height: 44px; opacity: .7; }
.chips { position: absolute; inset: 8px 8px auto; display: flex; justify-content: space-between;
  align-items: flex-start; gap: 6px; pointer-events: none; }
.chip { display: flex; align-items: center; gap: 6px; min-height: 20px; padding: 3px 8px; border-radius: 10px;
  background: rgb(10 11 14 / .74); white-space: nowrap; font-variant-numeric: tabular-nums; }
.chip:empty, [hidden] { display: none !important; }
.stats { display: block; line-height: 14px; color: #c3c7ce; overflow: hidden; text-overflow: ellipsis; }
.state { flex: none; }
.dot { width: 7px; height: 7px; border-radius: 50%; background: var(--accent); transition: background .2s; }
.middle { position: absolute; inset: 0; margin: auto; width: 52px; height: 52px; border-radius: 50%; display: flex;
  align-items: center; justify-content: center; background: rgb(10 11 14 / .6);
  pointer-events: none; }
.screen:not(:hover) .middle:not(.waiting) { display: none; }
.middle svg { width: 22px; height: 22px; }
.waiting { background: none; border: 2px solid rgb(255 255 255 / .16); border-top-color: var(--ink);
  width: 30px; height: 30px; animation: turn 1s linear infinite; }
.waiting svg { display: none; }
@keyframes turn { to { transform: rotate(1turn); } }
.note { position: absolute; inset: auto 8px 8px; padding: 6px 10px; border-radius: 8px; background: rgb(60 22 24 / .88);
  color: #ffb4ab; pointer-events: none; line-height: 1.35; max-height: 60%; overflow: hidden; }
.bar { display: flex; align-items: center; gap: 4px; height: 32px; flex: none; padding: 0 6px; background: #131418; }
.bar[data-off] { opacity: .4; pointer-events: none; }
button { all: unset; display: flex; align-items: center; justify-content: center; width: 24px; height: 24px; flex: none;
  border-radius: 6px; color: var(--faint); cursor: pointer; }
button:hover { color: var(--ink); background: rgb(255 255 255 / .07); }
button:focus-visible, input:focus-visible { outline: 1.5px solid var(--accent); outline-offset: -1px; }
button.text { width: auto; padding: 0 12px; color: var(--ink); background: rgb(255 255 255 / .09); }
svg { width: 16px; height: 16px; fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linecap: round;
  stroke-linejoin: round; }
svg.solid { fill: currentColor; stroke: none; }
.time { color: var(--faint); font-variant-numeric: tabular-nums; padding: 0 4px; white-space: nowrap; }
.time b { color: var(--ink); font-weight: 500; }
input { --played: 0%; --made: 0%; appearance: none; flex: 1; min-width: 40px; height: 20px; margin: 0 4px;
  cursor: pointer; border-radius: 4px; background: linear-gradient(to right,
  var(--accent) var(--played), #4a4e57 var(--played) var(--made),
  var(--line) var(--made)) center / 100% 3px no-repeat; }
input::-webkit-slider-thumb { appearance: none; width: 9px; height: 9px; border-radius: 50%; background: var(--ink); }
input::-moz-range-thumb { width: 9px; height: 9px; border: 0; border-radius: 50%; background: var(--ink); }
@container (max-width: 250px) { .time span { display: none; } }
@container (max-width: 190px) { .stats, .time { display: none; } }
@media (prefers-reduced-motion: reduce) { .waiting { animation-duration: 4s; } }
`

const shape = (paths, kind = '') => `<svg viewBox="0 0 24 24" class="${kind}" aria-hidden="true">${paths}</svg>`
const solid = (path) => shape(`<path d="${path}"/>`, 'solid')
const SPEAKER = '<path d="M4 9.5v5h3.5L12 18.5v-13L7.5 9.5z"/>'

export const ICONS = {
  play: solid('M8 5.2v13.6c0 .8.9 1.3 1.6.8l10-6.8c.6-.4.6-1.2 0-1.6l-10-6.8c-.7-.5-1.6 0-1.6.8z'),
  pause: solid('M7 5h3v14H7zM14 5h3v14h-3z'),
  again: shape('<path d="M5 12a7 7 0 1 0 2.2-5.1"/><path d="M4.6 4.2v4h4"/>'),
  loud: shape(`${SPEAKER}<path d="M15.5 9.2a4 4 0 0 1 0 5.6M18 6.8a7.4 7.4 0 0 1 0 10.4"/>`),
  silent: shape(`${SPEAKER}<path d="m16 9.5 5 5m0-5-5 5"/>`),
  pop: shape('<rect x="3.5" y="5" width="17" height="14" rx="2"/><path d="M12 12h5.5v4H12z" fill="currentColor"/>'),
  face: shape('<circle cx="12" cy="8.6" r="4.1"/><path d="M4.6 20c.7-3.8 3.7-5.8 7.4-5.8s6.7 2 7.4 5.8"/>')
}
