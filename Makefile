# make demo-videobert  trains VideoBERT on synthesised videos with captions
# make demo       pretrains, finetunes, evaluates and ships a small VideoMAE on synthesised videos
# make test       runs the fast tests; make test-slow runs those that take minutes each
# make lint       runs ruff, as in continuous integration
# make docs       builds the documentation in site/
# make notebook   writes examples/finetune_your_videos.ipynb from the script of that name
#
# Each creates .venv on first use. PYTHON is the interpreter for it (3.11 or newer).

PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python
RECIPES = examples/recipes
EVALUATE = $(PY) train.py evaluate --checkpoint demo/finetune --eval_data demo/data/val --num_clips 2 --num_crops 1 \
	--use_cpu true --per_device_eval_batch_size 16

.PHONY: demo demo-videobert test test-slow lint docs notebook clean

# One thread: a second one gains little on so small a model, and the data loader needs the other core
demo: export OMP_NUM_THREADS = 1
demo: $(VENV)/installed
	rm -rf demo/pretrain demo/finetune demo/evaluation demo/evaluation_shuffled demo/few_labels demo/bundle
	$(PY) train.py pretrain $(RECIPES)/demo_pretrain.yaml
	$(PY) train.py finetune $(RECIPES)/demo_finetune.yaml
	$(EVALUATE) --output_dir demo/evaluation
	$(EVALUATE) --output_dir demo/evaluation_shuffled --shuffle_frames true
	$(PY) examples/experiments/few_labels.py demo/few_labels --pretrained demo/pretrain \
		--train_data demo/data/train --eval_data demo/data/val
	$(PY) push_to_hub.py demo/finetune me/videomae-demo --dry_run demo/bundle \
		--metrics demo/evaluation/metrics.json --dataset "synthesised motions (videomae_hf.data.sources.synthetic)"
	$(PY) -m videomae_hf.cli report demo/report.html --pretrain demo/pretrain --finetune demo/finetune \
		--evaluation demo/evaluation --shuffled demo/evaluation_shuffled --videos demo/data/val \
		--few_labels demo/few_labels/summary.json

# VideoBERT on synthesised videos with captions, and its score on each attribute of unseen combinations
VIDEOBERT = $(PY) train.py videobert $(RECIPES)/demo_videobert.yaml
ATTRIBUTES = $(PY) examples/experiments/videobert_attributes.py --test demo/videobert/data/test \
	--out demo/videobert/results.jsonl
demo-videobert: export OMP_NUM_THREADS = 1
demo-videobert: $(VENV)/installed
	rm -rf demo/videobert
	$(PY) -m videomae_hf.data.sources.synthetic_captions demo/videobert/data
	test -f demo/pretrain/config.json || $(PY) train.py pretrain $(RECIPES)/demo_pretrain.yaml
	$(VIDEOBERT)
	$(VIDEOBERT) --task captioning --checkpoint demo/videobert/pretrained --backbone none --num_train_epochs 5 \
		--output_dir demo/videobert/captioner
	$(VIDEOBERT) --train_data demo/videobert/data/train/one_video.csv --num_train_epochs 5 \
		--output_dir demo/videobert/text_only
	$(ATTRIBUTES) demo/videobert/text_only --name "trained on texts"
	$(ATTRIBUTES) demo/videobert/pretrained --name "frozen backbone" --captioner demo/videobert/captioner \
		--conditions video text shuffled repeated --report demo/videobert/report.html

test: $(VENV)/installed
	$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed
	$(PY) -m pytest -q -m slow

lint: $(VENV)/bin/ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Installs ruff alone: linting the package needs none of its dependencies.
$(VENV)/bin/ruff: constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt ruff
	touch $@

docs: $(VENV)/installed
	$(PY) -m zensical build --clean --strict

notebook: $(VENV)/installed
	$(PY) -m jupytext --quiet --to ipynb --update --set-kernel python3 examples/finetune_your_videos.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt -e '.[app,demo,test,docs]'
	touch $@

clean:
	rm -rf demo output
