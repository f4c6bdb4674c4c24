"""The script that people write: a plain transformers program that describes one picture.

python tests/bench/plain_script.py MODEL PICTURE TOKENS
"""

import sys

import PIL.Image
from transformers import AutoModelForImageTextToText, AutoProcessor


def main() -> None:
    folder, picture, tokens = sys.argv[1:]
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    content = [
        {"type": "image", "image": PIL.Image.open(picture).convert("RGB")},
        {"type": "text", "text": "Describe this image in one short sentence."},
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.dtype)
    made = model.generate(**inputs, max_new_tokens=int(tokens), do_sample=False)
    print(processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


if __name__ == "__main__":
    main()
