// Numbers and elements of the page.

/** 0.9731 as 97.3. */
export function percent(part) {
  return (100 * part).toFixed(1);
}

/** A new HTML element with attributes and content. */
export function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...content);
  return made;
}
