"""The Chat Completions dialect: what OpenAI, Azure, Mistral, DeepSeek, vLLM, Ollama and many others send."""
